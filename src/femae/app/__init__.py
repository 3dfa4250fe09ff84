"""`femae app`: a page on this computer. The server keeps jobs and files, one worker process runs the jobs."""
