// Says how the live stream of a page is doing. hx-sse opens it again by itself;
// what it cannot know is that the right to read is gone.
(() => {
  const words = {
    live: "live",
    reconnecting: "Connection lost. Trying again; what you see may be old.",
    refused: "You can no longer follow this page: reload it.",
    done: "",
  };
  const show = (el, state, why) => {
    if (el?.dataset?.live === undefined) return;
    el.dataset.live = state;
    let word = el.querySelector("[data-live-word]");
    if (!word) {
      word = document.createElement("span");
      word.dataset.liveWord = "";
      el.replaceChildren(word);
    }
    word.textContent = why || words[state];
  };
  const on = (name, then) => document.addEventListener(name, (e) => then(e.target, e.detail ?? {}, e));

  on("htmx:sse:after:connection", (el) => show(el, "live"));
  on("htmx:sse:error", (el, detail) => {
    const refused = [401, 403, 404].includes(detail.status);
    show(el, refused ? "refused" : "reconnecting");
  });
  on("htmx:sse:before:connection", (el, detail) => {
    if (el?.dataset?.live === "refused") detail.connection.cancelled = true;
    else if (detail.connection.attempt > 1) show(el, "reconnecting");
  });
  on("htmx:sse:close", (el, detail) => {
    if (detail.reason === "message") show(el, "done");
    else if (el?.isConnected && el.dataset.live !== "refused") show(el, "reconnecting");
  });
  // The first request was answered with something else than a stream: the
  // answer must not take the place of the words.
  on("htmx:before:swap", (el, detail, e) => {
    if (el?.dataset?.live === undefined || detail.ctx?.response?.raw?.ok !== false) return;
    e.preventDefault();
    const answer = new DOMParser().parseFromString(detail.ctx.text ?? "", "text/html");
    show(el, "refused", answer.querySelector("[data-error]")?.textContent.trim());
  });
})();
