//! Shapes and element types.

use std::fmt;

/// Element type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float: the type of all computed values.
    F32,
    /// 32-bit unsigned: labels, positions, counters.
    U32,
    /// Bytes, four in a word: images.
    U8,
}

/// Extents of a value, outermost first. Activations are NHWC: batch, height, width, channels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(pub Vec<usize>);

impl Shape {
    /// Product of all extents.
    pub fn numel(&self) -> usize {
        self.0.iter().product()
    }

    /// The last extent (channels), 1 for a scalar.
    pub fn channels(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }

    /// Product of all extents but the last: pixels of a whole batch.
    pub fn rows(&self) -> usize {
        self.numel() / self.channels().max(1)
    }

    /// The four extents of an NHWC value: batch, height, width, channels.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the rank is not 4.
    pub fn nhwc(&self) -> crate::Result<[usize; 4]> {
        <[usize; 4]>::try_from(self.0.as_slice()).map_err(|_| {
            crate::Error::Shape(format!("expected [batch, height, width, channels], found {self}"))
        })
    }
}

impl std::ops::Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl From<&[usize]> for Shape {
    fn from(extents: &[usize]) -> Self {
        Shape(extents.to_vec())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Shape and element type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Type {
    /// Extents.
    pub shape: Shape,
    /// Elements.
    pub dtype: DType,
}

impl Type {
    /// Floats of this shape.
    pub fn f32(shape: &[usize]) -> Self {
        Type { shape: shape.into(), dtype: DType::F32 }
    }

    /// Unsigned words of this shape.
    pub fn u32(shape: &[usize]) -> Self {
        Type { shape: shape.into(), dtype: DType::U32 }
    }

    /// Bytes of this shape.
    pub fn u8(shape: &[usize]) -> Self {
        Type { shape: shape.into(), dtype: DType::U8 }
    }

    /// Bytes in memory, rounded up to a word.
    pub fn bytes(&self) -> u64 {
        let n = self.shape.numel() as u64;
        if self.dtype == DType::U8 { n.next_multiple_of(4) } else { n * 4 }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            DType::F32 => write!(f, "{}", self.shape),
            DType::U32 => write!(f, "u32{}", self.shape),
            DType::U8 => write!(f, "u8{}", self.shape),
        }
    }
}
