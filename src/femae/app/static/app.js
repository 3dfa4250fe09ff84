// The page of `femae app`: takes files, makes jobs of them, shows what comes out.

import { api } from "./api.js";
import { setUpCamera } from "./camera.js";
import { $, el, say } from "./dom.js";
import { addJob, setUpJobs } from "./jobs.js";
import { hideResult, showResult } from "./result.js";
import { fillSettings, wish } from "./settings.js";

let limits = null;

/** Each film is a job of its own; pictures given together are one. */
function take(files) {
  const isPicture = (file) => {
    const dot = file.name.lastIndexOf(".");
    const suffix = dot < 0 ? "" : file.name.slice(dot).toLowerCase();
    return limits.pictureSuffixes.includes(suffix);
  };
  let wanted;
  try {
    wanted = wish();
  } catch (error) {
    complain(error.message);
    return;
  }
  complain("");
  const options = { wish: wanted, maxBytes: limits.maxBytes, maxPictures: limits.maxPictures };
  const pictures = files.filter(isPicture);
  for (const file of files.filter((one) => !isPicture(one))) addJob([file], options);
  if (pictures.length) addJob(pictures, options);
}

function complain(text) {
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
    take([...input.files]);
    input.value = "";
  });
  let depth = 0; // dragenter and dragleave come for every child
  const mark = () => drop.classList.toggle("over", depth > 0);
  document.addEventListener("dragenter", () => (depth++, mark()));
  document.addEventListener("dragleave", () => (depth--, mark()));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    mark();
    const files = [...event.dataTransfer.files];
    if (files.length) take(files);
    else say("Only files can be dropped here");
  });
}

async function begin() {
  try {
    limits = await api.choices();
  } catch (error) {
    complain(error.message);
    return;
  }
  fillSettings(limits);
  setUpJobs({ onShow: showResult, onGone: hideResult });
  setUpDrop();
  setUpCamera({ take: (file) => take([file]), maxSeconds: limits.maxMinutes * 60 });
}

begin();
