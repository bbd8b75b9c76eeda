/* Search on a site that is opened from a folder: browsers start no Worker from file://, so that a hidden frame
   takes its place, with the same messages. Elsewhere nothing changes. */
(function () {
  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.appendChild(this.frame);
      this.hear = (event) => {
        if (event.source !== this.frame.contentWindow) return;
        const message = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(message);
        if (this.onmessage) this.onmessage(message);
      };
      window.addEventListener("message", this.hear);
      this.ready = new Promise((resolve) => { this.frame.onload = resolve; });
      const inside = this.frame.contentDocument;
      inside.open();
      inside.write(
        "<!doctype html><script>" +
        "postMessage = function (data) { parent.dispatchEvent(new MessageEvent('message', " +
        "{ data: data, source: self })) };" +
        "importScripts = function () { return Array.from(arguments).reduce(function (before, src) { " +
        "return before.then(function () { return new Promise(function (resolve, reject) { " +
        "var script = document.createElement('script'); script.src = src; script.onload = resolve; " +
        "script.onerror = reject; document.head.appendChild(script) }) }) }, Promise.resolve()) };" +
        "<\/script><script src=\"" + new URL(url, document.baseURI) + "\"><\/script>"
      );
      inside.close();
    }
    postMessage(data) {
      this.ready.then(() => {
        const frame = this.frame.contentWindow;
        frame.dispatchEvent(new frame.MessageEvent("message", { data: data }));
      });
    }
    terminate() {
      window.removeEventListener("message", this.hear);
      this.frame.remove();
    }
  }
  window.IFrameWorker = IFrameWorker;
  if (location.protocol === "file:") window.Worker = IFrameWorker;
})();
