// The page of pictures: show those with one compound, or without a face.

const figures = [...document.querySelectorAll("#gallery figure")], choice = document.getElementById("kind");
function showKind() {
  let count = 0;
  for (const figure of figures) {
    figure.hidden = choice.value !== "" && !figure.dataset.kinds.split("|").includes(choice.value);
    count += !figure.hidden;
  }
  document.getElementById("count").textContent = `${count.toLocaleString("en")} of ${figures.length.toLocaleString("en")}`;
}
choice.addEventListener("change", showKind);
document.addEventListener("keydown", event => { if (event.key === "t" && event.target.tagName !== "SELECT") switchTheme(); });
showKind();
document.documentElement.dataset.ready = "1";
