//! Keys and values of a sequence, in pages of 32 positions for all layers. Pages are shared between sequences that
//! begin alike, and copied when one of them goes on within a page.
//!
//! A page has, for each layer and key-value head, the keys *transposed* (a row is one number of the head, for all 32
//! positions) and then the values (rows of 32 numbers of the head, one a position). So both halves of attention are
//! sums of rows of 32, without a horizontal sum.

use std::sync::Arc;

use super::block::BLOCK;

/// Positions a page.
pub(super) const PAGE: usize = BLOCK;

/// How large keys and values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Layers.
    pub layers: usize,
    /// Key-value heads.
    pub heads: usize,
    /// Numbers a head: whole blocks.
    pub width: usize,
}

impl Layout {
    /// Bytes of a page.
    pub(super) fn page_bytes(self) -> u64 {
        (self.layers * self.heads * 2 * self.width * size_of::<[f32; PAGE]>()) as u64
    }

    /// Bytes of the pages of so many positions.
    pub(super) fn bytes(self, positions: usize) -> u64 {
        positions.div_ceil(PAGE) as u64 * self.page_bytes()
    }

    /// Where a head's keys begin in a page; its values follow them.
    fn keys(self, layer: usize, head: usize) -> usize {
        (layer * self.heads + head) * 2 * self.width
    }
}

/// Keys and values of 32 positions.
#[derive(Debug, Clone)]
pub(super) struct Page(Vec<[f32; PAGE]>);

impl Page {
    fn new(layout: Layout) -> Self {
        Self(vec![[0.0; PAGE]; layout.layers * layout.heads * 2 * layout.width])
    }

    /// A head's keys, transposed.
    pub(super) fn keys(&self, layout: Layout, layer: usize, head: usize) -> &[[f32; PAGE]] {
        let from = layout.keys(layer, head);
        &self.0[from..from + layout.width]
    }

    /// A head's values: numbers `32 * tile ..` of the head, a row a position.
    pub(super) fn values(&self, layout: Layout, layer: usize, head: usize, tile: usize) -> &[[f32; PAGE]] {
        let from = layout.keys(layer, head) + layout.width + tile * PAGE;
        &self.0[from..from + PAGE]
    }
}

/// A sequence's keys and values.
#[derive(Debug, Clone)]
pub(super) struct Kv {
    layout: Layout,
    pages: Vec<Arc<Page>>,
    positions: usize,
}

impl Kv {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            pages: Vec::new(),
            positions: 0,
        }
    }

    /// Positions that have been computed.
    pub(super) fn len(&self) -> usize {
        self.positions
    }

    pub(super) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    /// The first positions of this sequence, to go on from; shares the pages.
    pub(super) fn prefix(&self, positions: usize) -> Self {
        let positions = positions.min(self.positions);
        Self {
            layout: self.layout,
            pages: self.pages[..positions.div_ceil(PAGE)].to_vec(),
            positions,
        }
    }

    /// Makes room for positions that are then to be written.
    pub(super) fn grow(&mut self, positions: usize) {
        self.positions += positions;
        while self.pages.len() * PAGE < self.positions {
            self.pages.push(Arc::new(Page::new(self.layout)));
        }
    }

    /// Writes a position's key and value of all heads of a layer. A page that is shared is copied first.
    pub(super) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let (layout, slot) = (self.layout, position % PAGE);
        let Some(page) = self.pages.get_mut(position / PAGE) else {
            return;
        };
        let rows = &mut Arc::make_mut(page).0;
        let heads = keys.chunks_exact(layout.width).zip(values.chunks_exact(layout.width));
        for (head, (keys, values)) in heads.enumerate() {
            let from = layout.keys(layer, head);
            let (key_rows, value_rows) = rows[from..from + 2 * layout.width].split_at_mut(layout.width);
            for (row, key) in key_rows.iter_mut().zip(keys) {
                row[slot] = *key;
            }
            for (tile, values) in values.as_chunks::<PAGE>().0.iter().enumerate() {
                value_rows[tile * PAGE + slot] = *values;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kv, Layout};

    const LAYOUT: Layout = Layout {
        layers: 2,
        heads: 2,
        width: 64,
    };

    fn written(kv: &mut Kv, from: usize, to: usize, salt: f32) {
        kv.grow(to - from);
        for position in from..to {
            let number = |n: usize| salt + (position * 1000 + n) as f32;
            let keys: Vec<f32> = (0..128).map(number).collect();
            let values: Vec<f32> = (500..628).map(number).collect();
            kv.write(1, position, &keys, &values);
        }
    }

    #[test]
    fn numbers_lie_where_attention_looks_for_them() {
        let mut kv = Kv::new(LAYOUT);
        written(&mut kv, 0, 40, 0.0);
        let page = &kv.pages()[1];
        // Position 37, head 1 (numbers 64..), number 33 of it.
        assert_eq!(page.keys(LAYOUT, 1, 1)[33][5].to_bits(), 37097.0f32.to_bits());
        assert_eq!(page.values(LAYOUT, 1, 1, 1)[5][1].to_bits(), 37597.0f32.to_bits());
        assert_eq!(LAYOUT.bytes(33), 2 * LAYOUT.page_bytes());
    }

    #[test]
    fn a_branch_leaves_what_it_came_from_as_it_was() {
        let mut trunk = Kv::new(LAYOUT);
        written(&mut trunk, 0, 40, 0.0);
        let before = trunk.pages()[1].keys(LAYOUT, 1, 0).to_vec();
        let mut branch = trunk.prefix(35);
        assert_eq!((branch.len(), branch.pages().len()), (35, 2));
        written(&mut branch, 35, 70, 0.5);
        assert_eq!(trunk.pages()[1].keys(LAYOUT, 1, 0), before);
        assert_eq!(branch.pages()[1].keys(LAYOUT, 1, 0)[0][..3], before[0][..3]);
        assert_ne!(branch.pages()[1].keys(LAYOUT, 1, 0)[0][3..5], before[0][3..5]);
        assert!(std::sync::Arc::ptr_eq(&trunk.pages()[0], &branch.pages()[0]));
    }
}
