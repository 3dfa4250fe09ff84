"use strict";
// What every page has: the switch of light and dark, print, the downloads that lie compressed inside the page.

function isDark() {
  const set = document.documentElement.dataset.theme;
  return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function switchTheme(theme) {
  document.documentElement.dataset.theme = typeof theme === "string" ? theme : isDark() ? "light" : "dark";
  document.dispatchEvent(new Event("themechange"));
}

function saveAs(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function download(button) {
  const text = atob(document.getElementById(button.dataset.download).textContent.trim());
  const bytes = Uint8Array.from(text, letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  saveAs(await new Response(stream).blob(), button.dataset.name);
}

let themeBeforePrint = null;
addEventListener("beforeprint", () => {
  themeBeforePrint = document.documentElement.dataset.theme || "";
  for (const details of document.querySelectorAll("details")) details.open = true;
  switchTheme("light");
});
addEventListener("afterprint", () => {
  if (themeBeforePrint === "") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = themeBeforePrint;
  document.dispatchEvent(new Event("themechange"));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themechange")));
document.getElementById("theme").addEventListener("click", switchTheme);
document.getElementById("print").addEventListener("click", () => print());
for (const button of document.querySelectorAll("[data-download]")) button.addEventListener("click", () => download(button));
