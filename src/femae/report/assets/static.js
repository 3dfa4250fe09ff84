// Pages of charts that stand still.

document.addEventListener("keydown", event => { if (event.key === "t" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) switchTheme(); });
document.documentElement.dataset.ready = "1";
