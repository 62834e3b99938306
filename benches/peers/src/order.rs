//! In which order keys are asked for, the same in every run.

use serde::{Deserialize, Serialize};

/// How often which key is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// All alike.
    #[default]
    Uniform,
    /// The one of rank r as often as 1 / r^0.99, the ranks strewn over the keys.
    Zipf,
}

impl Order {
    /// `n` positions among `count`.
    pub fn positions(self, count: usize, n: usize) -> Vec<usize> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = || {
            // xorshift64*
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
        };
        match self {
            Order::Uniform => (0..n).map(|_| random() as usize % count).collect(),
            Order::Zipf => {
                let mut sum = 0.0;
                let sums: Vec<f64> = (1..=count)
                    .map(|rank| {
                        sum += (rank as f64).powf(-0.99);
                        sum
                    })
                    .collect();
                let position = |_| {
                    let at = random() as f64 / (1u64 << 53) as f64 * sum;
                    let rank = sums.partition_point(|sum| *sum <= at).min(count - 1);
                    // A prime that divides no count, so that no two ranks share a key.
                    rank * 7919 % count
                };
                (0..n).map(position).collect()
            }
        }
    }
}
