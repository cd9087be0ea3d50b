//! Counter-based random numbers: every draw is a pure function of a key and a counter, so a run
//! can be repeated, resumed at any point, and computed in any order on any number of threads.
//!
//! The mixer is SplitMix64 (Steele, Lea, Flood 2014). `tools/fixtures.py` has the same lines, so that PyTorch and
//! Defrost fill the same weights.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's finaliser of `key + (counter + 1) * golden ratio`.
pub fn mix(key: u64, counter: u64) -> u64 {
    let mut z = key.wrapping_add(counter.wrapping_add(1).wrapping_mul(GOLDEN));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// FNV-1a, 64 bits: the key of a name.
pub fn key_of(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3))
}

/// Uniform in [0, 1) from the top 24 bits: exact in f32.
pub fn unit(key: u64, counter: u64) -> f32 {
    (mix(key, counter) >> 40) as f32 / (1u32 << 24) as f32
}

/// A stream of draws under one key.
#[derive(Debug, Clone)]
pub struct Stream {
    key: u64,
    counter: u64,
}

impl Stream {
    /// The stream named by a list of numbers, such as `[seed, epoch, image]`.
    pub fn new(parts: &[u64]) -> Self {
        Stream { key: parts.iter().fold(0x5DEE_CE66_D1CE_4E5B, |key, &part| mix(key, part)), counter: 0 }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.counter += 1;
        mix(self.key, self.counter - 1)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in 0..n (multiply-high; the bias is below n / 2^64). `n` must be at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Standard normal (Box-Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Beta(alpha, alpha), by two gamma variates. `alpha` must be above 0.
    pub fn beta(&mut self, alpha: f64) -> f64 {
        // A smaller alpha could make the logarithms infinite.
        let alpha = alpha.max(1e-9);
        let (a, b) = (self.log_gamma_variate(alpha), self.log_gamma_variate(alpha));
        1.0 / (1.0 + (b - a).exp())
    }

    /// The logarithm of a Gamma(alpha, 1) variate: Marsaglia and Tsang 2000 for alpha + 1, reduced by a power.
    fn log_gamma_variate(&mut self, alpha: f64) -> f64 {
        let d = alpha + 1.0 - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            let u = 1.0 - self.unit();
            if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return (d * v).ln() + (1.0 - self.unit()).ln() / alpha;
            }
        }
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
