// Shows markdown that grows. Only blocks whose source changed are built again, so a long answer
// streams at constant cost and a selection in its finished part survives.

import { parseBlocks } from "./blocks.js";
import { renderBlock } from "./render.js";

export class MarkdownView {
  constructor(root) {
    this.root = root;
    this.shown = [];
  }

  update(source) {
    const blocks = parseBlocks(source);
    let same = 0;
    while (same < blocks.length && this.shown[same]?.raw === blocks[same].raw) same += 1;
    for (const stale of this.shown.splice(same)) stale.node.remove();
    for (const block of blocks.slice(same)) {
      const node = renderBlock(block);
      this.root.append(node);
      this.shown.push({ raw: block.raw, node });
    }
  }
}
