// Light, dark, or as the system has it. Loaded before the page is drawn, so that nothing flashes.
"use strict";
(() => {
  const root = document.documentElement;
  const kept = () => {
    try {
      return localStorage.getItem("theme") || "auto";
    } catch {
      return "auto";
    }
  };
  const apply = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    document.dispatchEvent(new CustomEvent("themechange"));
  };
  apply(kept());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(kept()));
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector("[data-theme-button]");
    if (!button) return;
    const names = { auto: "Colours: as the system has it", light: "Colours: light", dark: "Colours: dark" };
    const show = () => {
      button.dataset.shows = kept();
      button.setAttribute("aria-label", names[kept()]);
      button.title = names[kept()];
    };
    button.hidden = false;
    show();
    button.addEventListener("click", () => {
      const next = { auto: "light", light: "dark", dark: "auto" }[kept()];
      try {
        localStorage.setItem("theme", next);
      } catch {
        // a browser that keeps nothing shows what the system has
      }
      apply(next);
      show();
    });
  });
})();
