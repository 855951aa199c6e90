//! Outputs that are no numbers are not answered, unless the model's specification allows them.

use crate::check_inputs::place;
use crate::refusal::{Reason, Refusal};
use crate::tensor::{Data, OutputSpec, Tensor};

/// Refuses the answer where an output that must be finite is not, and names the first place. Other requests of the batch
/// have outputs of their own and are not concerned.
pub fn check_finite(specs: &[OutputSpec], outputs: &[Tensor]) -> Result<(), Refusal> {
    for (spec, tensor) in specs.iter().zip(outputs) {
        let Data::Float32(values) = &tensor.data else { continue };
        if spec.nan_allowed {
            continue;
        }
        if let Some(index) = first_non_finite(values) {
            let found = values[index];
            let name = if found.is_nan() { "NaN" } else { ["infinity", "-infinity"][usize::from(found < 0.0)] };
            let mut refusal = Refusal::new(Reason::NonFinite, format!("the model's output is {name} (non_finite)"));
            refusal.field = Some(place(&spec.name, &tensor.shape, index));
            return Err(refusal);
        }
    }
    Ok(())
}

const BLOCK: usize = 4096;

/// The index of the first NaN or infinity. A block is folded without branches, which the compiler does with vectors.
fn first_non_finite(values: &[f32]) -> Option<usize> {
    // Non-finite numbers are those whose exponent is all ones: adding one to it there, and only there, carries into the
    // sign's place.
    let non_finite = |x: &f32| (x.to_bits() & 0x7fff_ffff) + 0x0080_0000;
    for (number, block) in values.chunks(BLOCK).enumerate() {
        if block.iter().fold(0, |any, x| any | non_finite(x)) >> 31 != 0 {
            return block.iter().position(|x| !x.is_finite()).map(|index| number * BLOCK + index);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn the_fold_agrees_with_the_standard_library_on_every_exponent_and_place() {
        for bits in (0..=u32::MAX).step_by(4099).chain([0x7f7f_ffff, 0x7f80_0000, 0xff80_0000, 0x7f80_0001, u32::MAX]) {
            let x = f32::from_bits(bits);
            assert_eq!(first_non_finite(&[x]).is_none(), x.is_finite(), "{bits:x}");
        }
        for at in [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 7] {
            let mut values = vec![f32::MAX; 3 * BLOCK];
            values[at] = f32::NEG_INFINITY;
            assert_eq!(first_non_finite(&values), Some(at));
        }
        assert_eq!(first_non_finite(&[]), None);
    }

    #[test]
    fn the_place_is_named_and_allowed_outputs_pass() {
        let spec = |nan_allowed| OutputSpec { name: "y".into(), dtype: DType::Float32, shape: vec![], nan_allowed };
        let tensor = |values: &[f32]| Tensor { shape: vec![2, 2], data: Data::Float32(values.to_vec()) };
        let outputs = [tensor(&[f32::NAN; 4]), tensor(&[0.0, 1.0, f32::NEG_INFINITY, f32::NAN])];
        let refusal = check_finite(&[spec(true), spec(false)], &outputs).unwrap_err();
        assert_eq!(refusal.text(), "y[1][0]: the model's output is -infinity (non_finite)");
        assert_eq!((refusal.reason.status(), refusal.reason.code()), (500, "non_finite"));
        assert!(check_finite(&[spec(true), spec(true)], &outputs).is_ok());
    }

    /// `cargo test --release -- --ignored --nocapture cost_of` prints what the check costs.
    #[test]
    #[ignore = "prints a time"]
    fn cost_of_the_check() {
        let values = vec![1.5f32; 64 * 384];
        let start = std::time::Instant::now();
        let rounds = 10_000;
        for _ in 0..rounds {
            assert_eq!(first_non_finite(std::hint::black_box(&values)), None);
        }
        let each = start.elapsed() / rounds;
        println!(
            "{each:?} for {} KiB: {:.1} GB/s",
            (values.len() * 4) >> 10,
            (values.len() * 4) as f64 / each.as_secs_f64() / 1e9
        );
    }
}
