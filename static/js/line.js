// A network that goes silently closes no connection. The open streams of a page
// are watched: they are cut off, and so tried anew, when the browser is offline
// or when not even a sign of life has come for a while.
(() => {
  const SILENCE = 40_000; // ms; the server shows every 12 s that a stream lives
  const lines = new Set();

  // A line has cut, which breaks it off, again, which ends its wait before the
  // next try, and heard, the time of the last sign of life in ms.
  portolan.watch = (line) => {
    line.heard = Date.now();
    lines.add(line);
    return line;
  };
  portolan.forget = (line) => lines.delete(line);

  const cut = (line) => {
    line.heard = Date.now();
    line.cut();
  };
  addEventListener("offline", () => lines.forEach(cut));
  addEventListener("online", () => lines.forEach((line) => line.again()));
  setInterval(() => {
    const now = Date.now();
    lines.forEach((line) => {
      if (document.hidden) line.heard = now; // a hidden page does not read
      else if (now - line.heard > SILENCE) cut(line);
    });
  }, 5000);
})();
