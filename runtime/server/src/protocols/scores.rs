//! Logits → what a classifier or a reranker answers.

use crate::answer::Form;
use crate::bundle::task::{Activation, Gives};
use crate::json::writer;
use crate::tensor::{Data, Tensor};

/// Most characters of a score, and of its commas and brackets.
const SCORE: u64 = 24;

/// How an output is written in a native answer.
pub fn form(gives: &Gives) -> Form {
    match gives {
        Gives::Embedding | Gives::Score(_) | Gives::Tags { .. } => Form::Json,
        Gives::Classes { labels, top, .. } => {
            // A character may become an escape of six.
            let longest = labels.iter().map(|label| 6 * label.len() as u64 + 3).max().unwrap_or(0);
            Form::Rows((*top as u64).saturating_mul(longest + SCORE).saturating_add(8))
        }
    }
}

/// Scores of one row of logits, in float32 as the libraries compute them.
pub fn scores(activation: Activation, logits: &[f32]) -> Vec<f32> {
    match activation {
        Activation::None => logits.to_vec(),
        Activation::Sigmoid => logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
        Activation::Softmax => {
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f32> = logits.iter().map(|x| (x - most).exp()).collect();
            let sum: f32 = powers.iter().sum();
            powers.iter().map(|p| p / sum).collect()
        }
    }
}

/// The best `top` of scores, best first, the earlier of equal ones first: their indices.
pub fn best(scores: &[f32], top: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order[..top.min(order.len())].to_vec()
}

/// Appends the members of `outputs`: `"label": [[…]], "score": [[…]]` of classes, `"score": […]` of pairs; false, and
/// nothing, where the model's output is the answer.
pub fn write(out: &mut Vec<u8>, gives: &Gives, outputs: &[Tensor]) -> bool {
    let [Tensor { shape, data: Data::Float32(values) }] = outputs else { return false };
    let rows = values.chunks_exact(shape.get(1).copied().unwrap_or(1).max(1));
    match gives {
        Gives::Embedding | Gives::Tags { .. } => return false,
        Gives::Score(activation) => {
            let found: Vec<f32> = rows.flat_map(|row| scores(*activation, row)).collect();
            writer::key(out, "score");
            writer::flat(out, &Data::Float32(found));
        }
        Gives::Classes { labels, activation, top } => {
            let found: Vec<(Vec<usize>, Vec<f32>)> = rows
                .map(|row| {
                    let scores = scores(*activation, row);
                    let order = best(&scores, *top);
                    let sorted = order.iter().map(|at| scores[*at]).collect();
                    (order, sorted)
                })
                .collect();
            writer::key(out, "label");
            writer::list(out, &found, |out, (order, _)| {
                writer::list(out, order, |out, at| writer::string(out, labels.get(*at).map_or("", String::as_str)));
            });
            out.push(b',');
            writer::key(out, "score");
            writer::list(out, &found, |out, (_, scores)| writer::flat(out, &Data::Float32(scores.clone())));
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(gives: &Gives, shape: [usize; 2], values: &[f32]) -> String {
        let mut out = Vec::new();
        let tensor = Tensor { shape: shape.to_vec(), data: Data::Float32(values.to_vec()) };
        assert!(write(&mut out, gives, &[tensor]));
        if let Form::Rows(each) = form(gives) {
            assert!(out.len() as u64 <= each * shape[0] as u64 + 64, "{out:?}");
        }
        String::from_utf8(out).unwrap()
    }

    fn classes(activation: Activation, top: usize) -> Gives {
        Gives::Classes { labels: ["no", "yes", "\"\u{1}\""].map(str::to_owned).to_vec(), activation, top }
    }

    #[test]
    fn classes_are_named_best_first_and_the_earlier_of_equal_ones_first() {
        let rows = [0.0, 1.0, 1.0, f32::MAX, f32::MIN, 0.0];
        assert_eq!(
            written(&classes(Activation::None, 2), [2, 3], &rows),
            "\"label\":[[\"yes\",\"\\\"\\u0001\\\"\"],[\"no\",\"\\\"\\u0001\\\"\"]],\"score\":[[1.0,1.0],[3.4028235e+38,0.0]]"
        );
        assert_eq!(written(&classes(Activation::Softmax, 1), [0, 3], &[]), "\"label\":[],\"score\":[]");
        let even = written(&classes(Activation::Softmax, 3), [1, 3], &[500.0; 3]);
        assert!(even.ends_with("\"score\":[[0.33333334,0.33333334,0.33333334]]"), "{even}");
        let sure = written(&classes(Activation::Softmax, 1), [1, 3], &[-1e30, 1e30, 0.0]);
        assert_eq!(sure, "\"label\":[[\"yes\"]],\"score\":[[1.0]]");
    }

    #[test]
    fn pairs_have_one_score_each() {
        assert_eq!(
            written(&Gives::Score(Activation::Sigmoid), [3, 1], &[0.0, 100.0, -200.0]),
            "\"score\":[0.5,1.0,0.0]"
        );
        assert_eq!(written(&Gives::Score(Activation::None), [1, 1], &[-2.5]), "\"score\":[-2.5]");
        assert!(!write(&mut vec![], &Gives::Embedding, &[]));
    }
}
