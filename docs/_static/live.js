// Frames of live figures: as high as what is in them, and light or dark as the page around them. See docs/live/parts/embedded.mjs.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const frames = () => [...document.querySelectorAll(".live iframe")];
  const isDark = () => {
    const chosen = document.body.dataset.theme;
    return chosen === "dark" || chosen === "light" ? chosen === "dark" : dark.matches;
  };
  const tell = (frame) => frame.contentWindow?.postMessage({ live: "theme", dark: isDark() }, "*");

  addEventListener("message", ({ source, data }) => {
    const frame = frames().find((each) => each.contentWindow === source);
    if (!frame || data?.live !== "height" || !(data.height > 0)) return;
    frame.style.height = `${Math.ceil(data.height)}px`;
    if (data.first) tell(frame);
  });
  const tellAll = () => frames().forEach(tell);
  dark.addEventListener("change", tellAll);
  new MutationObserver(tellAll).observe(document.body, { attributeFilter: ["data-theme"] });
})();
