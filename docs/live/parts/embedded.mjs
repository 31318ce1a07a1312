// In a frame of the site: its height goes to the page around it, whose light or dark comes back. See docs/_static/live.js.
const forDark = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules].filter((rule) => rule.media?.mediaText.includes("dark")));

/** Make the document light or dark whatever the reader's system is, and draw figures again. */
export function setTheme(dark) {
  for (const { media } of forDark) media.mediaText = dark ? "all" : "not all";
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
  window.dispatchEvent(new Event("themechange"));
}

/** Called once in each page; does nothing in a page of its own. */
export function embed() {
  if (parent === window) return;
  document.documentElement.classList.add("embedded");
  let first = true;
  const tell = () => {
    parent.postMessage({ live: "height", height: document.body.offsetHeight, first }, "*");
    first = false;
  };
  addEventListener("message", ({ source, data }) => {
    if (source === parent && data?.live === "theme") setTheme(Boolean(data.dark));
  });
  new ResizeObserver(tell).observe(document.body);
}

embed();
