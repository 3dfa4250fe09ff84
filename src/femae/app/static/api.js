// Requests to the server of this page.

async function parse(response) {
  if (response.status === 204) return null;
  let body = null;
  try {
    body = await response.json();
  } catch {
    // no JSON: a refusal in plain text, or the server has stopped
  }
  if (response.ok && body !== null) return body;
  const error = new Error(body?.error ?? "the server gave an unexpected answer");
  error.status = response.status;
  throw error;
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Error("femae does not answer: is it still running?");
  }
  return parse(response);
}

const job = (id) => `api/jobs/${encodeURIComponent(id)}`;

export const api = {
  choices: () => request("api/choices"),
  create: (settings) => request("api/jobs", { method: "POST", body: JSON.stringify(settings) }),
  status: (id) => request(job(id)),
  start: (id) => request(`${job(id)}/start`, { method: "POST" }),
  cancel: (id) => request(`${job(id)}/cancel`, { method: "POST" }),
  remove: (id) => request(job(id), { method: "DELETE" }),
  rows: (id, offset, limit) => request(`${job(id)}/rows?offset=${offset}&limit=${limit}`),
  digest: (id) => request(`${job(id)}/files/look.json`),
  file: (id, key, download = false) => `${job(id)}/files/${encodeURIComponent(key)}${download ? "?download" : ""}`,
};

/** Upload one file; calls onProgress(bytes sent). `signal` aborts it. */
export function upload(id, file, { onProgress, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${job(id)}/files`);
    request.setRequestHeader("X-File-Name", encodeURIComponent(file.name));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => {
      if (request.status < 300) return resolve();
      let text = "the server did not take the file";
      try {
        text = JSON.parse(request.responseText).error;
      } catch {
        // keep the sentence above
      }
      reject(new Error(text));
    };
    request.onerror = () => reject(new Error("the upload was interrupted: is femae still running?"));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    if (signal.aborted) return reject(new DOMException("stopped", "AbortError"));
    request.send(file);
  });
}
