//! Recording operations, fusing them and giving values their memory.

use std::collections::HashMap;

use super::exec::Program;
use super::node::Node;
use super::skip::{Place, Sublayer};
use super::steps::{AttentionStep, Dest, Domain, Slot, Source, Step};
use super::sublayers::{self, Found};
use super::{Activation, ProgramError, SharedWeight, ValueId, Weight};
use crate::attention::{AttentionShape, Rope};
use crate::buffer::Buffer;
use crate::isa::Isa;
use crate::kv::KvLayout;
use crate::linear::{QuantInput, QuantLinear};

/// A rotary embedding; see [`Rope::new`].
#[derive(Clone, PartialEq)]
pub struct RopeOp {
    /// f32 (pairs,) angle per position.
    pub inv_freq: Vec<f32>,
    /// Pairs are neighbours, not halves.
    pub interleaved: bool,
    /// Factor on cosine and sine.
    pub magnitude: f32,
}

/// One attention sublayer as the model describes it.
#[derive(Clone)]
pub struct AttentionOp {
    /// Index of its KV in a block.
    pub layer: usize,
    /// Heads, scale, window and soft-cap.
    pub shape: AttentionShape,
    /// Epsilon of the head norms.
    pub norm_eps: f32,
    /// Rotary embedding; none leaves q and k as they are.
    pub rope: Option<RopeOp>,
    /// f32 (head_dim,) RMS norm of each query head.
    pub q_norm: Option<Vec<f32>>,
    /// f32 (head_dim,) RMS norm of each key head.
    pub k_norm: Option<Vec<f32>>,
}

/// Records a model's operations.
#[derive(Default)]
pub struct ProgramBuilder {
    nodes: Vec<Node>,
    widths: Vec<usize>,
    domains: Vec<Domain>,
    vocab_size: usize,
}

impl ProgramBuilder {
    /// Nothing recorded yet.
    pub fn new() -> ProgramBuilder {
        ProgramBuilder::default()
    }

    /// Columns of a value.
    pub fn width(&self, x: ValueId) -> Result<usize, ProgramError> {
        self.widths
            .get(x.0)
            .copied()
            .ok_or_else(|| ProgramError::Shape(format!("no value {}", x.0)))
    }

    fn push(&mut self, node: Node, width: usize, domain: Domain) -> ValueId {
        self.nodes.push(node);
        self.widths.push(width);
        self.domains.push(domain);
        ValueId(self.nodes.len() - 1)
    }

    fn expect(&self, what: &str, is: usize, wanted: usize) -> Result<(), ProgramError> {
        if is == wanted {
            return Ok(());
        }
        Err(ProgramError::Shape(format!("{what} has width {is}, {wanted} is needed")))
    }

    fn same(
        &self,
        what: &str,
        a: ValueId,
        b: Option<ValueId>,
        width: usize,
    ) -> Result<(), ProgramError> {
        let Some(b) = b else { return Ok(()) };
        self.expect(what, self.width(b)?, width)?;
        if self.domains[a.0] == self.domains[b.0] {
            return Ok(());
        }
        Err(ProgramError::Shape(format!("{what}: token rows and logit rows do not mix")))
    }

    /// Rows of `table` for the batch's tokens, times `factor`.
    pub fn embed(&mut self, table: SharedWeight, factor: f32) -> ValueId {
        self.vocab_size = table.rows();
        let width = table.cols();
        self.push(Node::Embed { table, factor }, width, Domain::Tokens)
    }

    /// RMS norm times `weight`, plus `residual`.
    pub fn rms_norm(
        &mut self,
        x: ValueId,
        weight: Vec<f32>,
        eps: f32,
        residual: Option<ValueId>,
    ) -> Result<ValueId, ProgramError> {
        let width = self.width(x)?;
        self.expect("the norm's weight", weight.len(), width)?;
        self.same("the norm's residual", x, residual, width)?;
        let domain = self.domains[x.0];
        Ok(self.push(Node::Norm { x, weight, eps, residual }, width, domain))
    }

    /// `concat(x · wᵀ for w in parts) + bias + residual`.
    pub fn linear(
        &mut self,
        x: ValueId,
        parts: Vec<SharedWeight>,
        bias: Option<Vec<f32>>,
        residual: Option<ValueId>,
    ) -> Result<ValueId, ProgramError> {
        let input = self.width(x)?;
        for part in &parts {
            self.expect("a linear's input", input, part.cols())?;
        }
        let width = parts.iter().map(|part| part.rows()).sum();
        if let Some(bias) = &bias {
            self.expect("the linear's bias", bias.len(), width)?;
        }
        self.same("the linear's residual", x, residual, width)?;
        let domain = self.domains[x.0];
        Ok(self.push(Node::Linear { x, parts, bias, residual }, width, domain))
    }

    /// Stores K and V and attends.
    pub fn attention(&mut self, qkv: ValueId, op: AttentionOp) -> Result<ValueId, ProgramError> {
        let shape = &op.shape;
        let wanted = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim;
        self.expect("attention's qkv", self.width(qkv)?, wanted)?;
        for norm in [&op.q_norm, &op.k_norm].into_iter().flatten() {
            self.expect("a head norm", norm.len(), shape.head_dim)?;
        }
        if self.domains[qkv.0] != Domain::Tokens {
            return Err(ProgramError::Shape("attention needs a row for each token".into()));
        }
        let width = shape.num_heads * shape.head_dim;
        Ok(self.push(Node::Attention { qkv, op: Box::new(op) }, width, Domain::Tokens))
    }

    /// `activation(gate) * up` of `x` = [gate | up].
    pub fn gated(&mut self, x: ValueId, activation: Activation) -> Result<ValueId, ProgramError> {
        let width = self.width(x)?;
        self.expect("gate and up together", width, width / 2 * 2)?;
        let domain = self.domains[x.0];
        Ok(self.push(Node::Gated { x, activation }, width / 2, domain))
    }

    /// `x + y`.
    pub fn add(&mut self, x: ValueId, y: ValueId) -> Result<ValueId, ProgramError> {
        let width = self.width(x)?;
        self.same("a sum", x, Some(y), width)?;
        let domain = self.domains[x.0];
        Ok(self.push(Node::Add { x, y }, width, domain))
    }

    /// Only the rows whose logits are wanted.
    pub fn logit_rows(&mut self, x: ValueId) -> Result<ValueId, ProgramError> {
        let width = self.width(x)?;
        if self.domains[x.0] == Domain::Logits {
            return Err(ProgramError::Shape("these are logit rows already".into()));
        }
        Ok(self.push(Node::LogitRows { x }, width, Domain::Logits))
    }

    /// `cap * tanh(x / cap)`.
    pub fn softcap(&mut self, x: ValueId, cap: f32) -> Result<ValueId, ProgramError> {
        let width = self.width(x)?;
        let domain = self.domains[x.0];
        Ok(self.push(Node::Softcap { x, cap }, width, domain))
    }

    /// The program that computes `output` for batches of up to `max_rows` rows.
    pub fn build(
        self,
        output: ValueId,
        layout: KvLayout,
        max_rows: usize,
        num_threads: usize,
        isa: Isa,
    ) -> Result<Program, ProgramError> {
        let width = self.width(output)?;
        if self.domains[output.0] != Domain::Logits || self.vocab_size == 0 {
            return Err(ProgramError::Shape(
                "the output must be logits of an embedded batch".into(),
            ));
        }
        let fused = self.fused();
        let mut memory = Memory::new(&self, &fused, output, max_rows);
        let mut plans: Vec<AttentionShape> = Vec::new();
        let mut ropes: Vec<RopeOp> = Vec::new();
        let mut steps = Vec::new();
        let mut places = Places::new(sublayers::find(&self.nodes), self.nodes.len());
        for (index, node) in self.nodes.into_iter().enumerate() {
            if fused.contains_key(&ValueId(index)) {
                continue;
            }
            let id = ValueId(index);
            let to = memory.dest(id);
            let (step, quantizes) = step_of(node, to, &mut memory, &mut plans, &mut ropes);
            places.push(index, &step, &memory);
            steps.push(step);
            if let (false, Some(_), Some(from)) = (quantizes, to.quant, to.slot) {
                places.push_quantize(index);
                steps.push(Step::Quantize { from, to });
            }
            memory.release(id);
        }
        let ropes =
            ropes.iter().map(|r| Rope::new(&r.inv_freq, r.interleaved, r.magnitude)).collect();
        let (buffers, quants) = memory.allocate(isa);
        Program::new(
            (steps, places.places, places.sublayers),
            buffers,
            quants,
            plans,
            ropes,
            layout,
            max_rows,
            width,
            self.vocab_size,
            num_threads,
            isa,
        )
    }

    /// Gate-and-up linears that become part of the gated activation behind them, by value.
    fn fused(&self) -> HashMap<ValueId, ValueId> {
        let mut num_readers = vec![0usize; self.nodes.len()];
        for node in &self.nodes {
            let (floats, linear) = node.inputs();
            floats.into_iter().chain(linear).for_each(|id| num_readers[id.0] += 1);
        }
        let mut fused = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let Node::Gated { x, .. } = node else { continue };
            let Node::Linear { parts, bias: None, residual: None, .. } = &self.nodes[x.0] else {
                continue;
            };
            let pair = parts.len() == 2 && parts.iter().all(|part| part.is_quantized());
            if pair && parts[0].rows() == parts[1].rows() && num_readers[x.0] == 1 {
                fused.insert(*x, ValueId(index));
            }
        }
        fused
    }
}

/// Which steps belong to which sublayer.
struct Places {
    /// By operation: its sublayer, and whether it is the last one.
    of_node: Vec<Option<Place>>,
    found: Vec<Found>,
    /// By step.
    places: Vec<Option<Place>>,
    sublayers: Vec<Sublayer>,
}

impl Places {
    fn new(found: Vec<Found>, num_nodes: usize) -> Places {
        let mut of_node = vec![None; num_nodes];
        for (sublayer, found) in found.iter().enumerate() {
            let end = found.members.len() - 1;
            for (place, &member) in found.members.iter().enumerate() {
                of_node[member] = Some(Place { sublayer, is_end: place == end });
            }
        }
        Places { of_node, found, places: Vec::new(), sublayers: Vec::new() }
    }

    /// The step of operation `node`. Sublayers end one after the other, in the order found.
    fn push(&mut self, node: usize, step: &Step, memory: &Memory) {
        let place = self.of_node[node];
        self.places.push(place);
        if let Some(Place { sublayer, is_end: true }) = place {
            let found = &self.found[sublayer];
            let input = memory.slot(found.residual);
            self.sublayers.push(Sublayer { number: found.number, input, to: *step.to() });
        }
    }

    /// The step behind it that quantises its rows: the last one's are everybody's.
    fn push_quantize(&mut self, node: usize) {
        self.places.push(self.of_node[node].filter(|place| !place.is_end));
    }
}

/// The step of one node, and whether it writes quantised rows itself; behind the others comes a
/// step of its own for that.
fn step_of(
    node: Node,
    to: Dest,
    memory: &mut Memory,
    plans: &mut Vec<AttentionShape>,
    ropes: &mut Vec<RopeOp>,
) -> (Step, bool) {
    let mut quantizes = matches!(node, Node::Norm { .. });
    let plain = if quantizes { to } else { Dest { quant: None, ..to } };
    let step = match node {
        Node::Embed { table, factor } => Step::Embed { table, factor, to: plain },
        Node::Norm { x, weight, eps, residual } => Step::Norm {
            from: memory.slot(x),
            weight,
            eps,
            residual: residual.map(|r| memory.slot(r)),
            to,
        },
        Node::Linear { x, parts, bias, residual } => Step::Linear {
            from: memory.source(x),
            parts,
            bias,
            residual: residual.map(|r| memory.slot(r)),
            to: plain,
        },
        Node::Gated { x, activation } => match memory.take_fused(x) {
            Some((from, [gate, up])) => {
                // In fixed point a row has one scale: it is known when all its columns are.
                quantizes = matches!(&*gate, Weight::Quant(QuantLinear::Group(_)));
                let to = if quantizes { to } else { Dest { quant_only: false, ..plain } };
                Step::GatedLinear { from, gate, up, activation, to }
            }
            None => Step::Gated { from: memory.slot(x), activation, to: plain },
        },
        Node::Add { x, y } => Step::Add { a: memory.slot(x), b: memory.slot(y), to: plain },
        Node::LogitRows { x } => Step::LogitRows { from: memory.slot(x), to: plain },
        Node::Softcap { x, cap } => Step::Softcap { from: memory.slot(x), cap, to: plain },
        Node::Attention { qkv, op } => Step::Attention {
            from: memory.slot(qkv),
            op: attention_step(*op, plans, ropes),
            to: plain,
        },
    };
    (step, quantizes)
}

fn attention_step(
    op: AttentionOp,
    plans: &mut Vec<AttentionShape>,
    ropes: &mut Vec<RopeOp>,
) -> AttentionStep {
    let plan = plans.iter().position(|shape| *shape == op.shape).unwrap_or_else(|| {
        plans.push(op.shape);
        plans.len() - 1
    });
    let rope = op.rope.map(|rope| {
        ropes.iter().position(|known| *known == rope).unwrap_or_else(|| {
            ropes.push(rope);
            ropes.len() - 1
        })
    });
    AttentionStep {
        layer: op.layer,
        norm_eps: op.norm_eps,
        q_norm: op.q_norm,
        k_norm: op.k_norm,
        rope,
        plan,
    }
}

/// Gives values buffers, which values that are not alive at once share.
struct Memory {
    max_rows: usize,
    output: ValueId,
    widths: Vec<usize>,
    domains: Vec<Domain>,
    needs_float: Vec<bool>,
    needs_quant: Vec<bool>,
    /// Values whose last reader is this one.
    dies_at: HashMap<ValueId, Vec<ValueId>>,
    fused: HashMap<ValueId, (ValueId, [SharedWeight; 2])>,
    slots: HashMap<ValueId, usize>,
    quants: HashMap<ValueId, usize>,
    slot_widths: Vec<usize>,
    quant_widths: Vec<usize>,
    free_slots: Vec<usize>,
    free_quants: Vec<usize>,
}

impl Memory {
    fn new(
        builder: &ProgramBuilder,
        fused: &HashMap<ValueId, ValueId>,
        output: ValueId,
        max_rows: usize,
    ) -> Memory {
        let count = builder.nodes.len();
        let mut last: Vec<usize> = (0..count).collect();
        let (mut needs_float, mut needs_quant) = (vec![false; count], vec![false; count]);
        needs_float[output.0] = true;
        let mut pairs = HashMap::new();
        for (index, node) in builder.nodes.iter().enumerate() {
            // A fused linear reads when the activation behind it runs.
            let reader = fused.get(&ValueId(index)).map_or(index, |gated| gated.0);
            let (floats, linear) = node.inputs();
            for id in floats {
                needs_float[id.0] |= !fused.contains_key(&id);
                last[id.0] = last[id.0].max(reader);
            }
            if let (Some(x), Node::Linear { parts, .. }) = (linear, node) {
                needs_quant[x.0] |= parts.iter().any(|part| part.is_quantized());
                needs_float[x.0] |= parts.iter().any(|part| !part.is_quantized());
                last[x.0] = last[x.0].max(reader);
                if fused.contains_key(&ValueId(index)) {
                    pairs.insert(ValueId(index), (x, [parts[0].clone(), parts[1].clone()]));
                }
            }
        }
        let mut dies_at: HashMap<ValueId, Vec<ValueId>> = HashMap::new();
        for (index, reader) in last.into_iter().enumerate() {
            dies_at.entry(ValueId(reader)).or_default().push(ValueId(index));
        }
        Memory {
            max_rows,
            output,
            widths: builder.widths.clone(),
            domains: builder.domains.clone(),
            needs_float,
            needs_quant,
            dies_at,
            fused: pairs,
            slots: HashMap::new(),
            quants: HashMap::new(),
            slot_widths: Vec::new(),
            quant_widths: Vec::new(),
            free_slots: Vec::new(),
            free_quants: Vec::new(),
        }
    }

    /// Memory for a value that is about to be written.
    fn dest(&mut self, id: ValueId) -> Dest {
        let width = self.widths[id.0];
        let can_skip_float = self.needs_quant[id.0] && !self.needs_float[id.0];
        let slot = if id == self.output {
            Some(Slot::Output)
        } else {
            // Kept also for values that are only read quantised: unless the writer quantises as it
            // goes, and then the pages of this buffer are never touched.
            let index = take(&mut self.free_slots, &mut self.slot_widths, width);
            self.slots.insert(id, index);
            Some(Slot::Buffer(index))
        };
        let quant = self.needs_quant[id.0].then(|| {
            let index = take(&mut self.free_quants, &mut self.quant_widths, width);
            self.quants.insert(id, index);
            index
        });
        Dest { slot, quant, width, domain: self.domains[id.0], quant_only: can_skip_float }
    }

    fn slot(&self, id: ValueId) -> Slot {
        Slot::Buffer(self.slots[&id])
    }

    fn source(&self, id: ValueId) -> Source {
        Source {
            slot: self.slots.get(&id).map(|&index| Slot::Buffer(index)),
            quant: self.quants.get(&id).copied(),
            width: self.widths[id.0],
        }
    }

    fn take_fused(&mut self, linear: ValueId) -> Option<(Source, [SharedWeight; 2])> {
        let (x, parts) = self.fused.remove(&linear)?;
        Some((self.source(x), parts))
    }

    /// Frees what nobody reads after step `id`.
    fn release(&mut self, id: ValueId) {
        for dead in self.dies_at.remove(&id).unwrap_or_default() {
            self.free_slots.extend(self.slots.get(&dead));
            self.free_quants.extend(self.quants.get(&dead));
        }
    }

    fn allocate(self, isa: Isa) -> (Vec<Buffer<f32>>, Vec<QuantInput>) {
        let rows = self.max_rows;
        (
            self.slot_widths
                .iter()
                .map(|&width| Buffer::zeroed(rows * row_stride(width)))
                .collect(),
            self.quant_widths.iter().map(|&width| QuantInput::new(isa, rows, width)).collect(),
        )
    }
}

/// Floats from one row of a buffer to the next: an odd number of cache lines, so that a column of
/// rows spreads over all sets of the caches.
fn row_stride(width: usize) -> usize {
    const LINE: usize = 64 / size_of::<f32>();
    (width.div_ceil(LINE) | 1) * LINE
}

/// The free place whose width fits best, made wider if none is wide enough, or a new one.
fn take(free: &mut Vec<usize>, widths: &mut Vec<usize>, width: usize) -> usize {
    let key = |&index: &usize| (widths[index] < width, widths[index].abs_diff(width));
    match free.iter().copied().min_by_key(key) {
        Some(index) => {
            free.retain(|&other| other != index);
            widths[index] = widths[index].max(width);
            index
        }
        None => {
            widths.push(width);
            widths.len() - 1
        }
    }
}
