// Plays a card's segment in its place, says why a picture or a video does not come, and sends a
// dropped video. Everything else is Gradio's.
"use strict";
window.vidembed = (() => {
  const note = (card, text, link) => {
    const place = card.querySelector(".ve-note");
    if (!place) return;
    place.textContent = text + (link ? " " : "");
    if (link) {
      const a = document.createElement("a");
      a.href = link;
      a.download = "";
      a.textContent = "Save the file";
      place.append(a);
    }
    place.hidden = false;
  };

  const WORDS = {
    NotFound: "The video is no longer there.",
    Forbidden: "This page may not open the video: see the terminal where it runs.",
    ReadFailed: "The video cannot be read at the moment.",
    Index: "The index does not answer.",
  };

  // Why an address of ours gave no picture or no video; null where the file itself came.
  const reason = async (url) => {
    try {
      const answer = await fetch(url, { headers: { Range: "bytes=0-0" } });
      if (answer.ok) return null;
      const told = await answer.json();
      return WORDS[told.problem] || `No picture: ${told.message}.`;
    } catch {
      return "The page's server does not answer: start it again.";
    }
  };

  const pictureFailed = async (image) => {
    const card = image.closest(".ve-card");
    const url = image.src;
    image.remove();
    card.classList.add("ve-blank");
    const text = await reason(url);
    if (text) note(card, text);
    if (text === WORDS.NotFound || text === WORDS.Forbidden) {
      card.querySelector(".ve-play")?.remove();
    }
  };

  const videoFailed = async (video) => {
    const card = video.closest(".ve-card");
    const url = video.src.split("#")[0];
    stop(video);
    const text = await reason(url);
    if (text) note(card, text);
    else note(card, "This browser cannot play the video: its container or codec is not for the web.", url);
  };

  // Back to the still picture.
  const stop = (video) => {
    const stage = video.closest(".ve-stage");
    video.pause();
    video.removeAttribute("src");
    video.load();
    video.remove();
    stage.classList.remove("ve-playing");
  };

  const play = (button) => {
    document.querySelectorAll(".ve-stage video").forEach(stop);
    const stage = button.closest(".ve-stage");
    const card = button.closest(".ve-card");
    const start = Number(card.dataset.start);
    const video = document.createElement("video");
    video.controls = true;
    video.playsInline = true;
    video.autoplay = true;
    video.addEventListener("loadedmetadata", () => {
      // Where the browser has not taken the place from the address.
      if (Math.abs(video.currentTime - start) > 0.25) video.currentTime = start;
    }, { once: true });
    video.addEventListener("error", () => video.getAttribute("src") && videoFailed(video));
    video.src = button.dataset.media + button.dataset.fragment;
    stage.classList.add("ve-playing");
    stage.append(video);
    video.focus();
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".ve-play");
    if (button) play(button);
  });
  // These two do not bubble.
  document.addEventListener("error", (event) => {
    if (event.target.matches?.(".ve-stage img")) pictureFailed(event.target);
  }, true);

  const words = (zone, text, failed) => {
    zone.querySelector(".ve-drop-words").textContent = text;
    zone.classList.toggle("ve-failed", Boolean(failed));
  };

  const send = (zone, file, trigger) => {
    const progress = zone.querySelector(".ve-progress");
    const request = new XMLHttpRequest();
    const done = (text, failed) => {
      progress.hidden = true;
      words(zone, text, failed);
    };
    const most = Number(zone.dataset.most);
    if (file.size > most) {
      done(`${file.name} is larger than ${Math.floor(most / 1e6)} MB, the most that this page takes. Cut it, or choose another file`, true);
      return;
    }
    request.open("POST", "query-video");
    request.setRequestHeader("X-File-Name", encodeURIComponent(file.name));
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) progress.value = event.loaded / event.total;
    };
    request.onload = () => {
      let told = {};
      try { told = JSON.parse(request.responseText); } catch { /* not ours */ }
      if (request.status !== 200) {
        done(told.message || `The upload was refused (${request.status}).`, true);
        return;
      }
      done(`Searched by ${file.name}. Drop another one, or choose a file`);
      trigger("dropped_video", { token: told.token, name: file.name });
    };
    request.onerror = () => done("The upload broke off: the file may be too large, or the page's server is gone.", true);
    progress.value = 0;
    progress.hidden = false;
    words(zone, `Sending ${file.name} …`);
    request.send(file);
  };

  const zoneOf = (event) => event.target.closest(".ve-drop");
  return {
    chosen: (event, trigger) => {
      const file = event.target.files?.[0];
      if (file) send(zoneOf(event), file, trigger);
      event.target.value = "";
    },
    over: (event) => {
      event.preventDefault();
      zoneOf(event)?.classList.add("ve-over");
    },
    left: (event) => zoneOf(event)?.classList.remove("ve-over"),
    dropped: (event, trigger) => {
      event.preventDefault();
      const zone = zoneOf(event);
      zone?.classList.remove("ve-over");
      const file = event.dataTransfer?.files?.[0];
      if (zone && file) send(zone, file, trigger);
    },
  };
})();
