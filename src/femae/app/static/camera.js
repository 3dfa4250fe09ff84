// Records films and takes pictures with the camera of this device, without sound, as files.

import { $, clock, say } from "./dom.js";

const MIME_TYPES = ["video/webm;codecs=vp8", "video/webm", "video/mp4"];

let stream = null;
let recorder = null;
let timer = 0;

/** `onFile(file)` is called with every film and picture; a recording stops after `maxSeconds`. */
export function setUpCamera({ onFile, maxSeconds }) {
  $("camera-open").addEventListener("click", () => (stream ? close() : open()));
  $("camera-close").addEventListener("click", close);
  $("camera-record").addEventListener("click", () => (recorder ? recorder.stop() : record(onFile, maxSeconds)));
  $("camera-snap").addEventListener("click", () => takePicture(onFile));
  window.addEventListener("pagehide", close);
}

function note(text) {
  $("camera-note").textContent = text;
  say(text);
}

async function open() {
  $("camera").hidden = false;
  $("camera-open").setAttribute("aria-expanded", "true");
  enable(false);
  if (!navigator.mediaDevices) {
    note("Browsers allow the camera only on pages of the same computer: open this page on the computer that runs femae, or send a film.");
    return;
  }
  note("Waiting for your permission …");
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
  } catch (error) {
    const words = {
      NotAllowedError: "The browser may not use the camera: allow it beside the address, and try again.",
      NotFoundError: "There is no camera: plug one in, or send a film.",
      NotReadableError: "The camera is in use by another program: close that one, and try again.",
    };
    note(words[error.name] ?? "The camera could not be opened.");
    return;
  }
  $("camera-view").srcObject = stream;
  await $("camera-view").play();
  enable(true);
  note("Ready. Nothing is recorded yet.");
}

function enable(on) {
  $("camera-record").disabled = $("camera-snap").disabled = !on;
}

function close() {
  recorder?.stop();
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  $("camera-view").srcObject = null;
  $("camera").hidden = true;
  $("camera-open").setAttribute("aria-expanded", "false");
}

function timestamp() {
  const now = new Date(Date.now() - new Date().getTimezoneOffset() * 60000);
  return now.toISOString().slice(0, 19).replaceAll(":", ".").replace("T", " ");
}

function record(onFile, maxSeconds) {
  const mimeType = MIME_TYPES.find((type) => MediaRecorder.isTypeSupported(type));
  if (!mimeType) {
    note("This browser cannot record films; take a picture instead.");
    return;
  }
  const chunks = [];
  const startedAt = performance.now();
  recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: 5e6 });
  recorder.ondataavailable = (event) => chunks.push(event.data);
  recorder.onstop = () => {
    clearInterval(timer);
    recorder = null;
    $("camera-record").textContent = "Record";
    $("camera-snap").disabled = false;
    note("Recorded; uploading the film.");
    onFile(new File(chunks, `camera ${timestamp()}.${mimeType.includes("mp4") ? "mp4" : "webm"}`, { type: mimeType }));
  };
  recorder.start(1000);
  $("camera-record").textContent = "Stop";
  $("camera-snap").disabled = true;
  say("Recording");
  timer = setInterval(() => {
    const seconds = (performance.now() - startedAt) / 1000;
    $("camera-note").textContent = `Recording ${clock(seconds)}`;
    if (seconds >= maxSeconds - 1) recorder?.stop();
  }, 500);
}

function takePicture(onFile) {
  const view = $("camera-view");
  const canvas = document.createElement("canvas");
  canvas.width = view.videoWidth;
  canvas.height = view.videoHeight;
  canvas.getContext("2d").drawImage(view, 0, 0);
  canvas.toBlob((blob) => onFile(new File([blob], `camera ${timestamp()}.jpg`, { type: "image/jpeg" })), "image/jpeg", 0.95);
}
