"use strict";
(() => {
  // A video from a data URI cannot be searched in every browser; one from a blob can.
  const blobOf = (uri) => {
    const [head, body] = uri.split(",");
    const bytes = Uint8Array.from(atob(body), (character) => character.charCodeAt(0));
    return URL.createObjectURL(new Blob([bytes], { type: head.slice(5).split(";")[0] }));
  };

  const start = (player) => {
    const video = player.querySelector("video");
    const canvases = [...player.querySelectorAll("canvas")];
    const controls = player.querySelector(".controls");
    const play = controls.querySelector(".play");
    const slider = controls.querySelector("input");
    const output = controls.querySelector("output");
    const { columns, rows, fps, last } = player.dataset;
    const frames = JSON.parse(player.dataset.frames);
    let shown = -1;

    const draw = () => {
      if (video.readyState < 2) return;
      const [width, height] = [video.videoWidth / columns, video.videoHeight / rows];
      canvases.forEach((canvas, index) => {
        const [x, y] = [(index % columns) * width, Math.floor(index / columns) * height];
        canvas.getContext("2d").drawImage(video, x, y, width, height, 0, 0, canvas.width, canvas.height);
      });
    };
    const current = () => Math.min(frames.length - 1, Math.floor(video.currentTime * fps + 1e-3));
    const show = (index) => {
      if (index === shown) return;
      shown = index;
      slider.value = index;
      output.textContent = `frame ${frames[index]} / ${last}`;
      slider.setAttribute("aria-valuetext", output.textContent);
      player.dispatchEvent(new CustomEvent("frame", { detail: frames[index], bubbles: true }));
    };
    const seek = (index) => {
      video.pause();
      const target = (index + frames.length) % frames.length;
      video.currentTime = (target + 0.5) / fps;
      show(target);
    };
    const follow = () => {
      draw();
      if (video.paused) return;
      show(current());
      requestAnimationFrame(follow);
    };

    slider.max = frames.length - 1;
    play.addEventListener("click", () => (video.paused ? video.play() : video.pause()));
    video.addEventListener("play", () => {
      play.textContent = "Pause";
      follow();
    });
    video.addEventListener("pause", () => (play.textContent = "Play"));
    video.addEventListener("seeked", draw);
    video.addEventListener("loadeddata", () => seek(0));
    slider.addEventListener("input", () => seek(Number(slider.value)));
    for (const button of controls.querySelectorAll(".step")) {
      button.addEventListener("click", () => seek(Number(slider.value) + Number(button.dataset.step)));
    }
    controls.querySelector("select").addEventListener("change", (event) => {
      video.playbackRate = Number(event.target.value);
    });
    // Until the browser has shown that it can play the video, its own player with its own message stays.
    video.addEventListener("loadeddata", () => {
      video.classList.add("sr");
      video.removeAttribute("controls");
      video.setAttribute("aria-hidden", "true");
      for (const part of player.querySelectorAll("[hidden]")) part.hidden = false;
    }, { once: true });
    video.src = blobOf(video.getAttribute("src"));
  };

  // Decoders are limited in number, so a video is loaded when its player comes near the visible part of the page.
  const waiting = new IntersectionObserver((entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      waiting.unobserve(target);
      start(target);
    }
  }, { rootMargin: "800px" });
  for (const player of document.querySelectorAll(".player")) waiting.observe(player);
})();
