// What the theme leaves out: names of its dialog and landmarks, and a keyboard's way into what scrolls.
(function () {
  function mend() {
    var search = document.querySelector(".md-search[role=dialog]");
    if (search) { search.setAttribute("aria-label", "Search"); }
    document.querySelectorAll(".md-code__nav").forEach(function (nav, place) {
      nav.setAttribute("aria-label", "Code block " + (place + 1));
    });
    document.querySelectorAll("pre > code, .md-typeset__scrollwrap").forEach(function (one) {
      if (one.scrollWidth > one.clientWidth) { one.tabIndex = 0; } else { one.removeAttribute("tabindex"); }
    });
  }
  // at once, not in the next frame: nobody meets what the theme has just added without its name
  new MutationObserver(mend).observe(document.documentElement, { childList: true, subtree: true });
  addEventListener("load", mend);
  addEventListener("resize", mend);
})();
