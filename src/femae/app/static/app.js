// Entry point of the page of `femae app`: accepts files, creates jobs for them, shows the results.

import { api } from "./api.js";
import { setUpCamera } from "./camera.js";
import { $, el, say } from "./dom.js";
import { addJob, setUpJobs } from "./jobs.js";
import { hideResult, showResult } from "./result.js";
import { fillSettings, readSettings } from "./settings.js";

let limits = null;

/** Create the jobs for some files: one for each film, one for all pictures. */
function submit(files) {
  const isPicture = (file) => {
    const dot = file.name.lastIndexOf(".");
    const suffix = dot < 0 ? "" : file.name.slice(dot).toLowerCase();
    return limits.pictureSuffixes.includes(suffix);
  };
  let settings;
  try {
    settings = readSettings();
  } catch (error) {
    showError(error.message);
    return;
  }
  showError("");
  const options = { settings, maxBytes: limits.maxBytes, maxPictures: limits.maxPictures };
  const pictures = files.filter(isPicture);
  for (const file of files.filter((one) => !isPicture(one))) addJob([file], options);
  if (pictures.length) addJob(pictures, options);
}

/** Show an error below the drop zone; an empty text hides it. */
function showError(text) {
  let place = $("complaint");
  if (!place) {
    place = el("p", { id: "complaint", className: "problems", role: "alert" });
    $("drop").after(place);
  }
  place.textContent = text;
  place.hidden = !text;
}

function setUpDrop() {
  const [drop, input] = [$("drop"), $("files")];
  input.addEventListener("change", () => {
    submit([...input.files]);
    input.value = "";
  });
  let depth = 0; // dragenter and dragleave fire for every child element
  const mark = () => drop.classList.toggle("over", depth > 0);
  document.addEventListener("dragenter", () => (depth++, mark()));
  document.addEventListener("dragleave", () => (depth--, mark()));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    mark();
    const files = [...event.dataTransfer.files];
    if (files.length) submit(files);
    else say("Only files can be dropped here");
  });
}

async function start() {
  try {
    limits = await api.choices();
  } catch (error) {
    showError(error.message);
    return;
  }
  fillSettings(limits);
  setUpJobs({ onShow: showResult, onGone: hideResult });
  setUpDrop();
  setUpCamera({ onFile: (file) => submit([file]), maxSeconds: limits.maxMinutes * 60 });
}

start();
