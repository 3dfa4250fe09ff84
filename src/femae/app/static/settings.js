// The settings form: fills in the choices and reads what was chosen.

import { $, el } from "./dom.js";

const OWN = "own";

export function fillSettings(choices) {
  const form = $("settings");
  form.model.append(...choices.models.map((name, number) => el("option", { value: number }, name)));
  form.labels.append(...choices.labels.map(([key, words]) => el("option", { value: key }, words)));
  form.rule.append(...choices.rules.map(([key, words]) => el("option", { value: key }, words)));
  form.classes.append(...choices.classes.map(([key, words]) => el("option", { value: key }, words)));
  form.classes.append(el("option", { value: OWN }, "pairs of your own"));
  const showPairs = () => ($("pairs").hidden = form.classes.value !== OWN);
  form.classes.addEventListener("change", showPairs);
  form.addEventListener("submit", (event) => event.preventDefault());
  showPairs();
  $("settings-box").open = window.matchMedia("(min-width: 60rem)").matches;
  const minutes = choices.maxMinutes === 1 ? "a minute" : `${choices.maxMinutes} minutes`;
  const size = choices.maxBytes >= 1e9 ? `${choices.maxBytes / 1e9} GB` : `${choices.maxBytes / 1e6} MB`;
  $("limits").textContent = `Films up to ${minutes}, ${size} a job, ${choices.maxPictures} pictures at once`;
}

/** The form's values as the body of the request that creates a job. Throws an Error with a sentence if invalid. */
export function readSettings() {
  const form = $("settings");
  for (const field of form.elements) {
    if (!field.checkValidity()) {
      $("settings-box").open = true;
      field.reportValidity();
      const label = field.closest("label").firstChild.textContent.trim().split(/[:,]/)[0];
      throw new Error(`the setting '${label}' is not right: ${field.validationMessage}`);
    }
  }
  const own = form.classes.value === OWN;
  if (own && !form.pairs.value.trim()) {
    $("settings-box").open = true;
    form.pairs.focus();
    throw new Error("name the pairs of emotions, as in fear+surprise, anger+disgust");
  }
  return {
    model: Number(form.model.value),
    labels: form.labels.value,
    detect: { faces: form.whole.checked ? "whole" : "detect" },
    rules: {
      rule: form.rule.value,
      classes: own ? form.pairs.value : form.classes.value,
      smooth: Number(form.smooth.value || 0),
      fill_gaps: Number(form.fill_gaps.value || 0),
      threshold: form.threshold.value === "" ? null : Number(form.threshold.value),
    },
  };
}
