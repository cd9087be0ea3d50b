//! Square roots of symmetric positive definite matrices and of covariances, in f64, by matrix products alone.

use crate::ops::Matmul;
use crate::tape::{Arg, CpuCall, Io, Op, Out, Type};
use crate::{Error, Result};

/// The product of `a [rows, depth]` and `b [depth, columns]`, on all threads.
fn product(a: &[f64], b: &[f64], [rows, depth, columns]: [usize; 3]) -> Vec<f64> {
    // The types only give the shapes; the numbers are f64.
    let types = [[rows, depth], [depth, columns], [rows, columns]].map(|shape| Type::f32(&shape));
    let io = Io::whole(&[&types[0], &types[1]], &[&types[2]]);
    let (mut c, mut memory) = (vec![0.0; rows * columns], Vec::new());
    Matmul::default().cpu_f64(&mut CpuCall {
        io: &io,
        inputs: vec![Arg::Real(a), Arg::Real(b)],
        updates: Vec::new(),
        outputs: vec![Out::Real(&mut c)],
        memory: Some(&mut memory),
    });
    c
}

/// Transpose of `a [rows, columns]`.
fn transposed(a: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|c| a[c..].iter().step_by(columns.max(1)).copied()).collect()
}

/// Adds `number` to the diagonal of a square matrix `[n, n]`.
fn add_diagonal(a: &mut [f64], n: usize, number: f64) {
    a.iter_mut().step_by(n + 1).for_each(|x| *x += number);
}

/// Steps of the power method.
const POWER_STEPS: usize = 30;
/// Limit on Newton-Schulz steps: 15 suffice for a condition number of 1e4, 40 for 1e12.
const MOST_STEPS: usize = 60;

/// Estimate of the largest eigenvalue by the power method. The estimate never exceeds the eigenvalue.
fn largest_eigenvalue(a: &[f64], n: usize) -> f64 {
    // The start vector has no symmetry, so it is orthogonal to no eigenvector.
    let mut v: Vec<f64> = (0..n).map(|i| 1.0 + (i as f64).sin() / 2.0).collect();
    let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    for _ in 0..POWER_STEPS {
        let before = length(&v);
        let dot = |row: &[f64]| row.iter().zip(&v).map(|(a, x)| a * x / before).sum();
        v = a.chunks_exact(n).map(dot).collect();
    }
    length(&v)
}

/// Square root and inverse square root of a symmetric positive definite `a [n, n]`, by the coupled iteration of
/// Newton and Schulz (Higham 2008, Functions of Matrices, 6.35): `t = (3 - z y) / 2`, `y = y t`, `z = t z`. The start
/// is y = a / (largest eigenvalue) and z = 1. The iteration converges quadratically where all eigenvalues of the
/// first y lie between 0 and 3.
///
/// # Errors
/// [`Error::Data`] where the iteration does not converge: the matrix has an eigenvalue of 0 or less, or a NaN or
/// infinite number.
fn square_roots(a: &[f64], n: usize) -> Result<[Vec<f64>; 2]> {
    // The power method underestimates the eigenvalue: the factor leaves room.
    let scale = 1.2 * largest_eigenvalue(a, n);
    let shape = [n, n, n];
    let mut y: Vec<f64> = a.iter().map(|x| x / scale).collect();
    let mut z = vec![0.0; n * n];
    add_diagonal(&mut z, n, 1.0);
    for _ in 0..MOST_STEPS {
        let mut t = product(&z, &y, shape);
        add_diagonal(&mut t, n, -1.0);
        let off = t.iter().fold(0.0, |off: f64, x| if x.is_nan() { f64::INFINITY } else { off.max(x.abs()) });
        t.iter_mut().for_each(|x| *x /= -2.0);
        add_diagonal(&mut t, n, 1.0);
        (y, z) = (product(&y, &t, shape), product(&t, &z, shape));
        // The step just done squares the distance.
        if off < 1e-7 {
            let root = scale.sqrt();
            y.iter_mut().for_each(|x| *x *= root);
            z.iter_mut().for_each(|x| *x /= root);
            return Ok([y, z]);
        }
        if !off.is_finite() {
            break;
        }
    }
    Err(Error::Data("a covariance has no square root: features that are no numbers, or all the same".into()))
}

/// A symmetric linear map of rows.
pub(crate) enum Map {
    /// The matrix `[dims, dims]`.
    Dense(Vec<f64>),
    /// A multiple of the rows plus their product with two matrices `[dims, rank]` and `[rank, dims]`.
    LowRank(f64, [Vec<f64>; 2]),
}

impl Map {
    /// `C^1/2`, or `C^-1/2` where `inverse` is true. C is the covariance of `centred` rows with `ridge` added to its
    /// diagonal.
    ///
    /// Where there are fewer rows than dimensions, the function only takes roots of `[count, count]` matrices. With B
    /// = rows / `sqrt(count - 1)`, r the ridge and S the root of `B B^T + r`: `C^1/2 = sqrt(r) + B^T M B` and
    /// `C^-1/2 = 1 / sqrt(r) - B^T S^-1 M B / sqrt(r)`, where `M = (S + sqrt(r))^-1`.
    ///
    /// # Errors
    /// As for [`square_roots`].
    pub(crate) fn root_of_covariance(
        centred: &[f64],
        dims: usize,
        ridge: f64,
        inverse: bool,
    ) -> Result<Self> {
        let count = centred.len() / dims;
        let scale = ((count - 1) as f64).sqrt();
        let rows: Vec<f64> = centred.iter().map(|x| x / scale).collect();
        let columns = transposed(&rows, dims);
        if count >= dims {
            let mut covariance = product(&columns, &rows, [dims, count, dims]);
            add_diagonal(&mut covariance, dims, ridge);
            let [root, inverse_root] = square_roots(&covariance, dims)?;
            return Ok(Map::Dense(if inverse { inverse_root } else { root }));
        }
        let (shape, r) = ([count; 3], ridge.sqrt());
        let mut gram = product(&rows, &columns, [count, dims, count]);
        add_diagonal(&mut gram, count, ridge);
        let [mut root, inverse_root] = square_roots(&gram, count)?;
        add_diagonal(&mut root, count, r);
        // The inverse of a matrix is the inverse square root of its square.
        let [_, mut core] = square_roots(&product(&root, &root, shape), count)?;
        if inverse {
            core = product(&inverse_root, &core, shape);
            core.iter_mut().for_each(|x| *x /= -r);
        }
        let right = product(&core, &rows, [count, count, dims]);
        Ok(Map::LowRank(if inverse { 1.0 / r } else { r }, [columns, right]))
    }

    /// Applies the map to rows of `dims` numbers.
    pub(crate) fn apply(&self, rows: &[f64], dims: usize) -> Vec<f64> {
        let count = rows.len() / dims;
        match self {
            Map::Dense(matrix) => product(rows, matrix, [count, dims, dims]),
            Map::LowRank(scale, [left, right]) => {
                let rank = right.len() / dims;
                let inner = product(rows, left, [count, dims, rank]);
                let mut mapped = product(&inner, right, [count, rank, dims]);
                mapped.iter_mut().zip(rows).for_each(|(y, x)| *y += scale * x);
                mapped
            }
        }
    }
}
