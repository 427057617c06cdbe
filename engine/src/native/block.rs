//! How weights lie in memory: blocks of 32 numbers, as ggml packs them, and how a block becomes floats again. Everything
//! is computed in single precision, so a format decides only about size and about what was lost when it was made.
//! The layouts: <https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>.

/// Numbers a block.
pub(super) const BLOCK: usize = 32;

/// A packed block. The loops are written out because the compiler turns plain loops over arrays into vector code, and
/// closures over arrays often not.
pub(super) trait Block: Copy + Send + Sync {
    /// Bytes of a block in a file.
    const BYTES: usize;

    /// Reads a block; `bytes` has [`Block::BYTES`] of them.
    fn read(bytes: &[u8]) -> Self;

    /// The numbers.
    fn unpack(&self) -> [f32; BLOCK];
}

/// 32 bytes with one scale.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Q8 {
    scale: u16,
    quants: [i8; BLOCK],
}

/// 32 half bytes with one scale: first the lower halves, then the upper ones, each 8 too large.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Q4 {
    scale: u16,
    quants: [u8; BLOCK / 2],
}

/// Half precision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Half([u16; BLOCK]);

/// The upper halves of single precision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brain([u16; BLOCK]);

/// Single precision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Single([f32; BLOCK]);

/// A half precision number: its bits are moved to where single precision has them, and 2^112 mends the exponent, which
/// is right for subnormal numbers too. Infinities become large numbers; weights have none.
#[inline(always)]
fn half(bits: u16) -> f32 {
    const REBASE: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * REBASE;
    f32::from_bits(magnitude.to_bits() | (u32::from(bits & 0x8000) << 16))
}

/// The little-endian number at `index`.
fn word(bytes: &[u8], index: usize) -> u16 {
    let (words, _) = bytes.as_chunks::<2>();
    words.get(index).map_or(0, |word| u16::from_le_bytes(*word))
}

fn words(bytes: &[u8]) -> [u16; BLOCK] {
    std::array::from_fn(|index| word(bytes, index))
}

impl Block for Q8 {
    const BYTES: usize = 2 + BLOCK;

    fn read(bytes: &[u8]) -> Self {
        let mut quants = [0; BLOCK];
        for (quant, byte) in quants.iter_mut().zip(&bytes[2..]) {
            *quant = byte.cast_signed();
        }
        Self {
            scale: word(bytes, 0),
            quants,
        }
    }

    #[inline]
    fn unpack(&self) -> [f32; BLOCK] {
        let scale = half(self.scale);
        let mut out = [0.0; BLOCK];
        for (out, quant) in out.iter_mut().zip(&self.quants) {
            *out = f32::from(*quant) * scale;
        }
        out
    }
}

impl Block for Q4 {
    const BYTES: usize = 2 + BLOCK / 2;

    fn read(bytes: &[u8]) -> Self {
        let mut quants = [0; BLOCK / 2];
        quants.copy_from_slice(&bytes[2..2 + BLOCK / 2]);
        Self {
            scale: word(bytes, 0),
            quants,
        }
    }

    #[inline]
    fn unpack(&self) -> [f32; BLOCK] {
        let scale = half(self.scale);
        let mut out = [0.0; BLOCK];
        let (lower, upper) = out.split_at_mut(BLOCK / 2);
        for (out, pair) in lower.iter_mut().zip(&self.quants) {
            *out = f32::from((pair & 15).cast_signed() - 8) * scale;
        }
        for (out, pair) in upper.iter_mut().zip(&self.quants) {
            *out = f32::from((pair >> 4).cast_signed() - 8) * scale;
        }
        out
    }
}

impl Block for Half {
    const BYTES: usize = 2 * BLOCK;

    fn read(bytes: &[u8]) -> Self {
        Self(words(bytes))
    }

    #[inline]
    fn unpack(&self) -> [f32; BLOCK] {
        let mut out = [0.0; BLOCK];
        for (out, bits) in out.iter_mut().zip(&self.0) {
            *out = half(*bits);
        }
        out
    }
}

impl Block for Brain {
    const BYTES: usize = 2 * BLOCK;

    fn read(bytes: &[u8]) -> Self {
        Self(words(bytes))
    }

    #[inline]
    fn unpack(&self) -> [f32; BLOCK] {
        let mut out = [0.0; BLOCK];
        for (out, bits) in out.iter_mut().zip(&self.0) {
            *out = f32::from_bits(u32::from(*bits) << 16);
        }
        out
    }
}

impl Block for Single {
    const BYTES: usize = 4 * BLOCK;

    fn read(bytes: &[u8]) -> Self {
        let (singles, _) = bytes.as_chunks::<4>();
        let mut out = [0.0; BLOCK];
        for (out, single) in out.iter_mut().zip(singles) {
            *out = f32::from_le_bytes(*single);
        }
        Self(out)
    }

    #[inline]
    fn unpack(&self) -> [f32; BLOCK] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Block, Brain, Half, Q4, Q8, Single, half};

    #[test]
    fn halves_are_read_exactly() {
        for (bits, want) in [
            (0x3c00u16, 1.0f32),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0, 0.0),
        ] {
            assert_eq!(half(bits).to_bits(), want.to_bits(), "{bits:x}");
        }
    }

    #[test]
    fn blocks_are_read_as_ggml_writes_them() {
        let mut q8 = vec![0x00, 0x38];
        q8.extend((0..32).map(|n: i8| (n - 16).cast_unsigned()));
        let q8 = Q8::read(&q8).unpack();
        assert_eq!((q8[0], q8[16], q8[31]), (-8.0, 0.0, 7.5));

        let mut q4 = vec![0x00, 0x3c];
        q4.extend([0x1fu8; 16]);
        let q4 = Q4::read(&q4).unpack();
        assert_eq!((q4[0], q4[15], q4[16], q4[31]), (7.0, 7.0, -7.0, -7.0));

        let one: Vec<u8> = 1.5f32.to_le_bytes().repeat(BLOCK);
        let brain = Brain::read(&[0xc0, 0x3f].repeat(BLOCK)).unpack();
        let half = Half::read(&[0x00, 0x3e].repeat(BLOCK)).unpack();
        for numbers in [Single::read(&one).unpack(), brain, half] {
            assert_eq!(numbers.map(f32::to_bits), [1.5f32.to_bits(); BLOCK]);
        }
    }
}
