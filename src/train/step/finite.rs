//! NaN and infinite numbers: the outputs of a network with extreme weights.

use crate::Error;
use crate::models::Network;

/// The tensor that holds the largest absolute number of a network: the first suspect where outputs are NaN or
/// infinite.
#[derive(Debug, Clone)]
pub(crate) struct Greatest {
    model: String,
    tensor: String,
    value: f32,
}

impl Greatest {
    pub(crate) fn of(net: &Network) -> Self {
        let most = |data: &[f32]| data.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let found = net.tensors().map(|(spec, data)| (most(data), spec.path.as_str()));
        let (value, tensor) = found.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
        Greatest { model: net.config().model.clone(), tensor: tensor.into(), value }
    }

    /// The error for `what` (features, outputs) of an image.
    pub(crate) fn error(&self, what: &str, image: &str) -> Error {
        Error::Weights(format!("{image}: {}", self.reason(what)))
    }

    /// The reason, without the image.
    pub(crate) fn reason(&self, what: &str) -> String {
        let Greatest { model, tensor, value } = self;
        format!(
            "the {what} of {model} are NaN or infinite; its greatest weight is {value:.1e}, in '{tensor}': the weights \
             are damaged, or their training diverged"
        )
    }
}

/// Whether no number is NaN or infinite.
pub(crate) fn all_finite(numbers: &[f32]) -> bool {
    // The sum stays 0 unless a number is NaN or infinite. The compiler vectorises this form.
    numbers.iter().fold(0.0, |sum, x| sum + x * 0.0) == 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_that_is_none_is_found_anywhere() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..37 {
                let mut numbers = vec![3.0e38; 37];
                assert!(all_finite(&numbers));
                numbers[at] = bad;
                assert!(!all_finite(&numbers), "{bad} at {at}");
            }
        }
        assert!(all_finite(&[]));
    }
}
