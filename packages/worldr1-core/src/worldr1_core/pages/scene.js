"use strict";
(() => {
  const START = { yaw: -0.5, pitch: 0.4, zoom: 1 };
  const STEP = Math.PI / 36;
  const KEYS = {
    ArrowLeft: (view) => (view.yaw += STEP),
    ArrowRight: (view) => (view.yaw -= STEP),
    ArrowUp: (view) => (view.pitch += STEP),
    ArrowDown: (view) => (view.pitch -= STEP),
    "+": (view) => (view.zoom *= 1.15),
    "=": (view) => (view.zoom *= 1.15),
    "-": (view) => (view.zoom /= 1.15),
    0: (view) => Object.assign(view, START),
    Home: (view) => Object.assign(view, START),
  };
  const CORNERS = [[-1, -1], [1, -1], [1, 1], [-1, 1]];

  const decodePoints = (points) => {
    if (!points) return null;
    const bytes = Uint8Array.from(atob(points.data), (character) => character.charCodeAt(0));
    const levels = new DataView(bytes.buffer, 0, points.count * 6);
    const positions = new Float32Array(points.count * 3);
    for (let i = 0; i < positions.length; i++) {
      positions[i] = points.low[i % 3] + levels.getUint16(2 * i, true) * points.step[i % 3];
    }
    const colours = [];
    for (let i = 0, at = points.count * 6; i < points.count; i++, at += 3) {
      colours.push(`rgb(${bytes[at]} ${bytes[at + 1]} ${bytes[at + 2]})`);
    }
    return { positions, colours };
  };

  // A direction of a camera in the world, by its unit quaternion (x, y, z, w).
  const rotate = ([x, y, z, w], [a, b, c]) => {
    const [tx, ty, tz] = [2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)];
    return [a + w * tx + y * tz - z * ty, b + w * ty + z * tx - x * tz, c + w * tz + x * ty - y * tx];
  };

  // A length of the form 1, 2 or 5 times a power of ten.
  const roundLength = (length) => {
    const power = 10 ** Math.floor(Math.log10(length));
    return [5, 2, 1].map((factor) => factor * power).find((value) => value <= length);
  };

  class Plot {
    constructor(canvas, scene) {
      this.canvas = canvas;
      this.scene = scene;
      this.fit = canvas.dataset.fit;
      this.centre = JSON.parse(canvas.dataset.centre);
      this.radius = Number(canvas.dataset.radius);
      this.view = { ...START };
      this.output = canvas.parentElement.querySelector("output");
      this.frame = 0;
      this.listen();
      this.describe();
    }

    listen() {
      const { canvas } = this;
      canvas.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
        event.preventDefault();
        this.press(event.key);
      });
      for (const button of canvas.parentElement.querySelectorAll("button")) {
        button.addEventListener("click", () => this.press(button.dataset.key));
      }
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        this.held = [event.clientX, event.clientY];
      });
      canvas.addEventListener("pointermove", (event) => this.drag(event));
      for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (this.held = null));
      // Only a plot in use takes the wheel: the page must scroll past the others.
      canvas.addEventListener("wheel", (event) => {
        if (document.activeElement !== canvas) return;
        event.preventDefault();
        this.view.zoom *= Math.exp(-event.deltaY / 500);
        this.update();
      }, { passive: false });
      new ResizeObserver(() => this.request()).observe(canvas);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.request());
    }

    press(key) {
      KEYS[key](this.view);
      this.update();
    }

    drag(event) {
      if (!this.held) return;
      this.view.yaw += (event.clientX - this.held[0]) / 120;
      this.view.pitch += (event.clientY - this.held[1]) / 120;
      this.held = [event.clientX, event.clientY];
      this.update();
    }

    update() {
      const { view } = this;
      view.pitch = Math.max(-1.5, Math.min(1.5, view.pitch));
      view.zoom = Math.max(0.2, Math.min(20, view.zoom));
      this.describe();
      this.request();
    }

    describe() {
      const degrees = (angle) => Math.round((angle * 180) / Math.PI);
      const turn = ((degrees(this.view.yaw) % 360) + 540) % 360 - 180;
      const height = degrees(this.view.pitch);
      this.output.textContent = `seen from ${Math.abs(turn)}° ${turn < 0 ? "right" : "left"}, ` +
        `${Math.abs(height)}° ${height < 0 ? "below" : "above"}, zoom ${this.view.zoom.toFixed(1)}`;
    }

    request() {
      if (this.pending) return;
      this.pending = requestAnimationFrame(() => {
        this.pending = 0;
        this.draw();
      });
    }

    // Coordinates on the canvas, and distance from the eye relative to that of the centre.
    project(x, y, z) {
      const { cosYaw, sinYaw, cosPitch, sinPitch, scale, middle } = this.projection;
      const [dx, dy, dz] = [x - this.centre[0], y - this.centre[1], z - this.centre[2]];
      const side = cosYaw * dx + sinYaw * dz;
      const ahead = cosYaw * dz - sinYaw * dx;
      const depth = 1 + (sinPitch * dy + cosPitch * ahead) / (4 * this.radius);
      const factor = scale / Math.max(depth, 0.05);
      return [middle[0] + side * factor, middle[1] + (cosPitch * dy - sinPitch * ahead) * factor, depth];
    }

    prepare() {
      const { canvas, view } = this;
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
        canvas.width = Math.round(width * ratio);
        canvas.height = Math.round(height * ratio);
      }
      const context = canvas.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      context.lineJoin = context.lineCap = "round";
      this.projection = {
        cosYaw: Math.cos(view.yaw), sinYaw: Math.sin(view.yaw),
        cosPitch: Math.cos(view.pitch), sinPitch: Math.sin(view.pitch),
        scale: (0.46 * Math.min(width, height) * view.zoom) / this.radius,
        middle: [width / 2, height / 2],
      };
      return context;
    }

    draw() {
      const context = this.prepare();
      const style = getComputedStyle(this.canvas);
      const { paths, points, hidden } = this.scene;
      if (this.fit === "paths") this.drawFloor(context, style.getPropertyValue("--soft"));
      if (points && this.fit === "points" && !hidden.has("points")) this.drawPoints(context, points);
      for (const path of paths) {
        if (!hidden.has(path.name)) this.drawPath(context, path, style.getPropertyValue(`--${path.name}`));
      }
      this.drawAxes(context, style.getPropertyValue("--text"));
    }

    drawPoints(context, { positions, colours }) {
      const drawn = [];
      for (let i = 0; i < colours.length; i++) {
        const [x, y, depth] = this.project(positions[3 * i], positions[3 * i + 1], positions[3 * i + 2]);
        if (depth > 0.1) drawn.push([depth, x, y, colours[i]]);
      }
      drawn.sort((a, b) => b[0] - a[0]);
      const size = Math.max(2, this.canvas.clientWidth / 130) * Math.sqrt(this.view.zoom);
      for (const [depth, x, y, colour] of drawn) {
        context.fillStyle = colour;
        context.fillRect(x - size / 2, y - size / 2, size / depth, size / depth);
      }
    }

    line(context, places, { colour, width, alpha = 1, closed = false }) {
      context.beginPath();
      places.forEach((place, index) => {
        const [x, y] = this.project(...place);
        if (index) context.lineTo(x, y);
        else context.moveTo(x, y);
      });
      if (closed) context.closePath();
      Object.assign(context, { strokeStyle: colour, lineWidth: width, globalAlpha: alpha });
      context.stroke();
      context.globalAlpha = 1;
    }

    drawPath(context, path, colour) {
      const broad = path.name === "commanded";
      this.line(context, path.positions, { colour, width: broad ? 6 : 2, alpha: broad ? 0.45 : 1 });
      const count = path.positions.length;
      const chosen = new Set([0, 1, 2, 3, 4].map((part) => Math.round((part * (count - 1)) / 4)));
      let now = path.frames.findIndex((frame) => frame >= this.frame);
      if (now < 0) now = count - 1;
      for (const index of chosen) if (index !== now) this.drawCamera(context, path, index, colour, 1, 0.55);
      this.drawCamera(context, path, now, colour, 2.5, 1);
    }

    drawCamera(context, path, index, colour, width, alpha) {
      const depth = this.fit === "paths" ? this.radius * 0.28 : this.radius * 0.14;
      const centre = path.positions[index];
      const corners = CORNERS.map(([x, y]) => {
        const ray = rotate(path.quaternions[index], [x * path.reach[0], y * path.reach[1], 1]);
        return centre.map((value, axis) => value + depth * ray[axis]);
      });
      this.line(context, corners, { colour, width, alpha, closed: true });
      for (const corner of corners) this.line(context, [centre, corner], { colour, width, alpha });
      // A bar above the image shows which way is up.
      if (alpha === 1) this.line(context, [corners[0], corners[1]], { colour, width: width + 2, alpha });
    }

    drawFloor(context, colour) {
      const step = roundLength(this.radius / 1.5);
      const reach = Math.ceil((1.6 * this.radius) / step);
      const [x0, , z0] = this.centre.map((value) => Math.round(value / step) * step);
      const y = this.centre[1] + this.radius * 0.75;
      for (let i = -reach; i <= reach; i++) {
        const ends = [[-reach, i], [reach, i], [i, -reach], [i, reach]].map(([a, b]) => [x0 + a * step, y, z0 + b * step]);
        this.line(context, ends.slice(0, 2), { colour, width: 1, alpha: 0.28 });
        this.line(context, ends.slice(2), { colour, width: 1, alpha: 0.28 });
      }
      context.font = "12px system-ui, sans-serif";
      context.fillStyle = colour;
      context.textAlign = "right";
      context.fillText(`grid ${Number(step.toPrecision(1))}`, this.canvas.clientWidth - 8, this.canvas.clientHeight - 8);
    }

    drawAxes(context, colour) {
      const { cosYaw, sinYaw, cosPitch, sinPitch } = this.projection;
      const [x, y, size] = [58, this.canvas.clientHeight - 36, 26];
      const axes = {
        right: [cosYaw, sinPitch * sinYaw],
        up: [0, -cosPitch],
        forward: [sinYaw, -sinPitch * cosYaw],
      };
      context.font = "11px system-ui, sans-serif";
      context.fillStyle = context.strokeStyle = colour;
      context.textAlign = "center";
      context.lineWidth = 1.5;
      for (const [name, [dx, dy]] of Object.entries(axes)) {
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(x + size * dx, y + size * dy);
        context.stroke();
        const length = Math.hypot(dx, dy);
        if (length > 0.25) context.fillText(name, x + (size + 14) * dx + 14 * Math.sign(dx), y + (size + 9) * dy + 4);
      }
    }
  }

  const start = (holder) => {
    const data = JSON.parse(holder.dataset.scene);
    const scene = { paths: data.paths, points: decodePoints(data.points), hidden: new Set() };
    const plots = [...holder.querySelectorAll("canvas")].map((canvas) => new Plot(canvas, scene));
    for (const part of holder.querySelectorAll("[hidden]")) part.hidden = false;
    for (const box of holder.querySelectorAll(".layers input")) {
      box.addEventListener("change", () => {
        scene.hidden[box.checked ? "delete" : "add"](box.value);
        plots.forEach((plot) => plot.request());
      });
    }
    // The camera of the frame that the clip's player shows stands out.
    holder.closest("article")?.addEventListener("frame", (event) => {
      plots.forEach((plot) => {
        plot.frame = event.detail;
        plot.request();
      });
    });
  };
  for (const holder of document.querySelectorAll(".scene")) start(holder);
})();
