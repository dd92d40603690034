// Pipe tables: a header row, a row of dashes that gives the alignment, body rows.

const MAX_COLUMNS = 64;
const DASHES = /^:?-+:?$/;

/** Cells of a row. A pipe behind a backslash or inside a code span does not separate. */
function splitRow(line) {
  const cells = [];
  let cell = "";
  let inCode = false;
  for (let i = 0; i < line.length; i += 1) {
    if (line[i] === "\\" && line[i + 1] === "|") {
      cell += "|";
      i += 1;
    } else if (line[i] === "|" && !inCode) {
      cells.push(cell.trim());
      cell = "";
    } else {
      if (line[i] === "`") inCode = !inCode;
      cell += line[i];
    }
  }
  cells.push(cell.trim());
  if (line.trimStart().startsWith("|")) cells.shift();
  if (cells.length > 1 && cells.at(-1) === "") cells.pop();
  return cells.slice(0, MAX_COLUMNS);
}

function alignment(dashes) {
  if (dashes.endsWith(":")) return dashes.startsWith(":") ? "center" : "right";
  return "left";
}

export function isTableStart(lines, at) {
  const [head, under] = [lines[at], lines[at + 1]];
  if (!head.includes("|") || !under || !under.includes("-")) return false;
  const dashes = splitRow(under);
  return dashes.every((cell) => DASHES.test(cell)) && dashes.length === splitRow(head).length;
}

export function readTable(lines, at) {
  if (!isTableStart(lines, at)) return null;
  const header = splitRow(lines[at]);
  const align = splitRow(lines[at + 1]).map(alignment);
  const rows = [];
  let next = at + 2;
  while (next < lines.length && lines[next].includes("|")) {
    const cells = splitRow(lines[next]);
    rows.push(header.map((_, column) => cells[column] ?? ""));
    next += 1;
  }
  return { block: { kind: "table", header, align, rows }, next };
}
