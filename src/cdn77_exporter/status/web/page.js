// Shows what /api/status says, anew with every server-sent event. Texts go in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const STALE_SECONDS = 10; // without news for so long, what is shown is said to be old

const place = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function say(id, text) {
  const target = place(id);
  if (target.textContent !== text) target.textContent = text; // a live region speaks only when it changes
}

// Replaces the children only when what they are made from has changed, so that focus and selection stay.
const shown = new Map();
function fill(id, source, make) {
  const key = JSON.stringify(source);
  if (shown.get(id) === key) return;
  shown.set(id, key);
  place(id).replaceChildren(...make(source));
}

// Numbers and times

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function amount(value) {
  if (value === null || value === undefined) return "–";
  for (const [size, unit] of [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e4, " k"]]) {
    if (Math.abs(value) >= size) {
      const scale = unit === " k" ? 1e3 : size;
      return (value / scale).toFixed(Math.abs(value / scale) >= 100 ? 0 : 1) + unit;
    }
  }
  return Math.abs(value) < 10 && value % 1 ? value.toFixed(1) : whole.format(value);
}

function bits(value) {
  const text = amount(value);
  return / [kMGT]$/.test(text) ? `${text}bit/s` : `${text} bit/s`;
}

function bytes(value) {
  const text = amount(value);
  return / [kMGT]$/.test(text) ? `${text}B` : `${text} B`;
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const rounded = Math.max(0, Math.round(seconds));
  if (rounded < 120) return `${rounded} s`;
  if (rounded < 7200) return `${Math.round(rounded / 60)} min`;
  if (rounded < 172800) return `${Math.round(rounded / 3600)} h`;
  return `${Math.round(rounded / 86400)} days`;
}

const ago = (now, then) => (then === null ? "never" : `${duration(now - then)} ago`);
const moment = (seconds) => `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);

// The verdict

function complete({ lag_seconds: lag, watermark }) {
  return watermark === null
    ? "Nothing has been counted yet."
    : `Complete up to ${moment(watermark)}, ${duration(lag)} behind the clock.`;
}

function showVerdict(status) {
  const { colour, headline } = status.verdict;
  place("verdict").className = `verdict ${colour}`;
  say("headline", headline);
  // Read out once; the seconds that run are for the eye only and are in the figures, too.
  place("subline").textContent = status.working ? complete(status.completeness) : "This process does not count yet.";
  document.title = title(colour, headline);
  fill("problems", status.problems, (problems) => problems.map((problem) => element("li", { class: problem.severity },
    element("strong", {}, problem.words), ` since ${moment(Date.parse(problem.since) / 1000)}. `, element("span", { class: "remedy" }, `To do: ${problem.remedy}.`))));
}

// The tab says at a glance whether somebody has to look.
const MARKS = { green: "✓", amber: "!", red: "✗", waiting: "…" };
const title = (colour, headline) => `${MARKS[colour]} ${headline} – cdn77_exporter`;

function showFigures(status) {
  say("version", status.version);
  place("figure-lag").textContent = duration(status.completeness.lag_seconds);
  place("figure-watching").textContent = amount(status.audience.watching);
  place("figure-viewers").textContent = amount(status.audience.viewers);
  place("figure-bandwidth").textContent = bits(status.audience.bits_per_second);
  place("figure-streams").textContent = amount(status.audience.streams);
  place("figure-poll").textContent = ago(status.now, status.push.last_poll);
  place("figure-push").textContent = ago(status.now, status.push.last_push);
}

// The pipeline

const TITLES = { list: "List", fetch: "Fetch", decode: "Decode", count: "Count", push: "Push", delete: "Delete" };

function queuePicture(queue, capacity) {
  const width = 40 * Math.min(1, capacity ? queue / capacity : 0);
  return drawn("svg", { viewBox: "0 0 46 18", "aria-hidden": "true" },
    drawn("rect", { class: "frame", x: 0.5, y: 4.5, width: 40, height: 9 }),
    drawn("rect", { class: "fill", x: 0.5, y: 4.5, width, height: 9 }),
    drawn("path", { class: "arrow", d: "M41 4l4.5 5-4.5 5" }));
}

function stage(row) {
  const bound = row.limit === null ? "" : `, at most ${row.limit}`;
  const box = element("div", { class: row.holds ? "stage busy" : "stage" },
    element("b", {}, TITLES[row.name] ?? row.name),
    element("span", { class: "amount" }, amount(row.holds)),
    element("small", {}, `${row.unit}${bound}`),
    element("small", {}, row.note || "\u00a0"));
  const item = element("li", {}, box);
  if (row.queue !== null) {
    item.append(element("div", { class: "queue" }, queuePicture(row.queue, row.capacity),
      element("span", {}, element("span", { class: "label" }, `${row.queue}/${row.capacity}`))));
  }
  return item;
}

// Completeness

const RECENT = 40;

function sequencePicture(shard) {
  const last = shard.highest;
  const left = last - RECENT + 1;
  const first = Math.max(shard.first, left); // what was before is not known
  const absent = (number) => shard.gaps.some(([from, to]) => from <= number && number <= to);
  const picture = drawn("svg", { class: "sequence", viewBox: `0 0 ${RECENT * 5} 18`, role: "img",
    "aria-label": `numbers ${first} to ${last}` });
  for (let number = first; number <= last; number += 1) {
    const x = (number - left) * 5 + 0.75;
    picture.append(drawn("rect", absent(number)
      ? { class: "absent", x, y: 3, width: 3, height: 12 }
      : { class: "there", x, y: 3, width: 3.5, height: 12 }));
  }
  return picture;
}

function shardRow(shard, now) {
  const gaps = shard.gaps.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ");
  const state = shard.state === "current" ? (shard.waiting ? "files waiting" : "up to date") : shard.state;
  return element("tr", {},
    element("th", { scope: "row" }, shard.name),
    element("td", { class: "state" }, state),
    element("td", { class: "number" }, shard.newest === null ? "–" : `${clock(shard.newest)} (${ago(now, shard.newest)})`),
    element("td", { class: "number" }, whole.format(shard.waiting)),
    element("td", {}, shard.highest === null ? "–" : sequencePicture(shard)),
    element("td", { class: shard.missing ? "gap" : "nothing" },
      shard.missing ? `${shard.missing} missing: ${gaps || "no longer listed"}` : "none"));
}

function showTime(status) {
  const { completeness, now } = status;
  if (completeness.watermark !== null) {
    const written = completeness.written === null ? "no sample yet" : `last sample: ${clock(completeness.written)}`;
    const more = completeness.shards_known > completeness.shards.length
      ? ` ${completeness.shards_known - completeness.shards.length} more shards are not shown.` : "";
    place("watermark").textContent =
      `Everything before ${clock(completeness.watermark)} UTC is counted (${duration(completeness.lag_seconds)} ago); ${written}.${more}`;
  }
  // Ages change with each event, so they are rounded to what a person notices.
  fill("shards", [completeness.shards, Math.floor(now / 5)], ([shards]) => (shards.length
    ? shards.map((shard) => shardRow(shard, now))
    : [nothing(6, "No shard has delivered a file yet.")]));
}

function nothing(columns, text) {
  return element("tr", {}, element("td", { colspan: columns, class: "nothing" }, text));
}

// The last hour

const LEAST_POINTS = 20; // soon after a start the plots are not stretched over their whole width

function plot(title, values, step, format, trouble) {
  const known = values.filter((value) => value !== null);
  const top = Math.max(...known, 0) || 1;
  const width = Math.max(values.length - 1, LEAST_POINTS);
  const offset = width - values.length + 1;
  const picture = drawn("svg", { class: "plot", viewBox: `0 0 ${width} 60`, preserveAspectRatio: "none", role: "img",
    "aria-label": known.length
      ? `${title}: now ${format(known.at(-1))}, at most ${format(Math.max(...known))} in the last ${duration(values.length * step)}`
      : `${title}: not measured yet` });
  const points = values.map((value, index) => (value === null ? null : [index + offset, 58 - (value / top) * 54]));
  if (trouble) {
    for (const point of points) if (point && point[1] < 58) picture.append(drawn("rect", { class: "trouble", x: point[0] - 0.8, y: point[1], width: 0.8, height: 58 - point[1] }));
  } else {
    for (const run of runs(points)) {
      const line = run.map(([x, y]) => `${x},${y.toFixed(1)}`).join(" ");
      picture.append(
        drawn("polygon", { class: "area", points: `${run[0][0]},58 ${line} ${run.at(-1)[0]},58` }),
        drawn("polyline", { class: "curve", points: line }));
    }
  }
  picture.append(drawn("line", { class: "base", x1: 0, x2: width, y1: 58.5, y2: 58.5 }));
  return element("figure", {},
    element("figcaption", {}, element("span", {}, title), element("b", {}, known.length ? format(known.at(-1)) : "–")),
    picture,
    element("p", { class: "range", "aria-hidden": "true" }, element("span", {}, `${duration(width * step)} ago`),
      element("span", {}, known.length ? `at most ${format(Math.max(...known))}` : ""), element("span", {}, "now")));
}

function runs(points) {
  const found = [];
  let run = [];
  for (const point of [...points, null]) {
    if (point) run.push(point);
    else if (run.length) {
      found.push(run);
      run = [];
    }
  }
  return found;
}

function showHour({ history, push, now }) {
  const step = history.step_seconds;
  fill("plots", history, () => [
    plot("Lines counted", history.events_per_second, step, (value) => `${amount(value)}/s`),
    plot("Delay", history.lag_seconds, step, duration),
    plot("Samples accepted", history.samples_per_second, step, (value) => `${amount(value)}/s`),
    plot("Failed push attempts", history.failed_attempts, step, amount, true),
  ]);
  const failures = push.refused || push.incomplete ? `${whole.format(push.refused)} requests refused, ${whole.format(push.incomplete)} batches incomplete` : "none refused";
  place("push-results").textContent =
    `Since the start: ${whole.format(push.accepted)} batches accepted with ${whole.format(push.samples)} samples, `
    + `${whole.format(push.retries)} requests sent again, ${failures}; ${whole.format(push.outbox_requests)} wait in the outbox.`
    + (push.limit_samples === null ? "" : ` The receiver refuses large requests; they have at most ${whole.format(push.limit_samples)} samples and ${bytes(push.limit_bytes)}.`);
  place("owed-table").hidden = !push.owed_series;
  fill("owed", [push.owed, push.owed_series, Math.floor(now / 5)], ([owed, count]) => {
    const rows = owed.map((one) => element("tr", {},
      element("th", { scope: "row", class: "key" }, one.series),
      element("td", { class: "number" }, one.accepted === null ? "never" : `${clock(one.accepted)} (${ago(now, one.accepted)})`)));
    if (count > owed.length) rows.push(nothing(2, `${whole.format(count - owed.length)} more.`));
    return rows;
  });
}

// The audience

function bars(title, rows, format) {
  const most = Math.max(...rows.map((row) => row.amount), 1);
  const list = element("ol", { class: "bars" }, ...rows.map((row) => {
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${(100 * row.amount) / most}%`;
    return element("li", {}, element("span", { class: "name", title: row.name }, row.name), element("span", {}, format(row.amount)), bar);
  }));
  return element("div", {}, element("h3", {}, title), rows.length ? list : element("p", { class: "nothing" }, "No data yet."));
}

function hours(seconds) {
  return `${amount(seconds / 3600)} h`;
}

function percent(share) {
  return share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

function showAgents({ unknown_agents: agents }) {
  fill("agents", agents, ({ share, frequent }) => {
    if (!frequent.length) return [nothing(3, "None.")];
    const rows = frequent.map((agent) => element("tr", {},
      element("td", {}, agent.user_agent ? element("code", {}, agent.user_agent) : "(none)"),
      element("td", { class: "number" }, whole.format(agent.requests)),
      element("td", { class: "number" }, percent(agent.share))));
    rows.push(nothing(3, `All of them together: ${percent(share)} of the requests.`));
    return rows;
  });
}

function showAudience({ audience }) {
  if (audience.tick !== null) place("audience-at").textContent = `As of ${clock(audience.tick)} UTC, the last settled tick; bandwidth over the minute before it, watch time and sessions since their counters began (in all ${hours(audience.watch_seconds)} in ${amount(audience.sessions)} sessions).`;
  fill("rankings", audience, () => [
    bars("Streams by viewers now", audience.streams_by_watching, amount),
    bars("Streams by watch time", audience.streams_by_watch_time, hours),
    bars("Streams by sessions", audience.streams_by_sessions, amount),
    bars("Streams by active viewers", audience.streams_by_viewers, amount),
    bars("Streams by bandwidth", audience.streams_by_bandwidth, bits),
    bars("Devices by active viewers", audience.devices, amount),
    bars("Countries by active viewers", audience.countries, amount),
    bars("POPs by bandwidth", audience.pops, bits),
  ]);
}

// What does not count, what was said, and how it is set

function showFiles(status) {
  fill("rejects", status.rejects, (rejects) => (rejects.length ? rejects.map((reject) => element("tr", {},
    element("th", { scope: "row" }, reject.reason, element("span", { class: "meaning" }, reject.meaning)),
    element("td", { class: "number" }, whole.format(reject.lines)),
    element("td", {}, ...(reject.example
      ? [element("code", {}, reject.example.excerpt), element("span", { class: "meaning key" }, `line ${reject.example.line} of ${reject.example.key}`)]
      : ["–"])))) : [nothing(3, "None.")]));
  fill("ignored", status.ignored, (ignored) => (ignored.length ? ignored.map((one) => element("tr", {},
    element("th", { scope: "row" }, element("code", {}, one.field)),
    element("td", { class: "number" }, whole.format(one.values)),
    element("td", { class: "key" }, one.key))) : [nothing(3, "None.")]));
  fill("aside", [status.aside, status.aside_files], ([aside, count]) => {
    const rows = aside.map((file) => element("tr", {},
      element("th", { scope: "row", class: "key" }, file.key),
      element("td", {}, file.reason, element("span", { class: "meaning" }, file.meaning), ...(file.detail ? [element("code", {}, file.detail)] : [])),
      element("td", { class: "number" }, bytes(file.size))));
    if (count > aside.length) rows.push(nothing(3, `${whole.format(count - aside.length)} more.`));
    return rows.length ? rows : [nothing(3, "None.")];
  });
}

function showWarnings(status) {
  fill("log", status.warnings, (warnings) => (warnings.length ? warnings.map((line) => element("li", {},
    element("time", { datetime: line.timestamp }, line.timestamp.slice(5, 19).replace("T", " ")), " ",
    element("span", { class: line.level }, line.message), " ", line.text)) : [element("li", { class: "nothing" }, "None.")]));
}

function showSettings(status) {
  fill("values", status.settings, (settings) => Object.entries(settings).map(([name, value]) => element("tr", {},
    element("th", { scope: "row" }, element("code", {}, name)), element("td", { class: "key" }, value || "–"))));
}

// Listening

let heard = 0;

function show(status) {
  heard = Date.now();
  connected(true);
  showVerdict(status);
  showFigures(status);
  fill("stages", status.pipeline, (stages) => (stages.length ? stages.map(stage) : [element("li", {}, "Not started yet.")]));
  showTime(status);
  showHour(status);
  showAudience(status);
  showAgents(status);
  showFiles(status);
  showWarnings(status);
  showSettings(status);
  document.body.dataset.shown = status.now;
}

function connected(live) {
  say("connection", live ? "Live" : "Not connected");
  if (live) return;
  const headline = heard ? "No connection to the exporter" : "Waiting for the exporter";
  place("verdict").className = `verdict ${heard ? "red" : "waiting"}`;
  say("headline", headline);
  document.title = title(heard ? "red" : "waiting", headline);
  place("subline").textContent = heard
    ? "It no longer answers; this is its last status. The page keeps trying."
    : "It does not answer. The page keeps trying.";
}

function listen() {
  const events = new EventSource("api/events");
  events.addEventListener("status", (event) => show(JSON.parse(event.data)));
  events.addEventListener("error", () => {
    // A closed source does not reconnect: too many listen already, or the exporter is starting.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  });
}

setInterval(() => {
  if (Date.now() - heard > STALE_SECONDS * 1000) connected(false);
}, 1000);
listen();
