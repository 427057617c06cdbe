//! The embedder's laws, over the double and over the real model.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::BertModel;
use habit_engine::embedder::{HashEmbedder, MiniLm};
use habit_engine::models::{DEFAULT_EMBEDDER, Weights};
use habit_engine::{Embedder, TokenEmbedder};

use crate::models;

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

async fn one(embedder: &dyn Embedder, text: &str) -> Vec<f32> {
    embedder.embed(vec![text.into()]).await.unwrap().remove(0)
}

/// The laws of [`Embedder`].
async fn keeps_the_laws(embedder: Arc<dyn Embedder>) {
    assert!(embedder.embed(Vec::new()).await.unwrap().is_empty());
    assert!(!embedder.id().is_empty());
    let long = "many words ".repeat(2000);
    let texts = [
        "",
        " ",
        "a",
        "My dog is called Biscuit",
        &long,
        "Grüße aus 東京 🐕‍🦺",
        "a",
    ]
    .map(str::to_owned)
    .to_vec();
    let vectors = embedder.embed(texts.clone()).await.unwrap();
    assert_eq!(vectors.len(), texts.len());
    for (text, vector) in texts.iter().zip(&vectors) {
        assert_eq!(vector.len(), embedder.dimensions());
        assert!((dot(vector, vector).sqrt() - 1.0).abs() < 1e-3, "{text:.20}");
        let alone = one(&*embedder, text).await;
        let worst = alone.iter().zip(vector).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{text:.20} differs by {worst} in a batch");
    }
    assert_eq!(vectors[2], vectors[6], "the same text gives the same vector");

    let together = (0..40).map(|n| {
        let embedder = Arc::clone(&embedder);
        tokio::spawn(async move { (n, one(&*embedder, &format!("text number {n}")).await) })
    });
    for joined in futures::future::join_all(together).await {
        let (n, vector) = joined.unwrap();
        let alone = one(&*embedder, &format!("text number {n}")).await;
        assert!(
            dot(&vector, &alone) > 0.9999,
            "requests that are embedded together don't mix"
        );
    }
    // An asker that leaves disturbs nobody.
    drop(embedder.embed(vec!["left".into()]));
    assert_eq!(one(&*embedder, "still here").await.len(), embedder.dimensions());
}

async fn real() -> Arc<MiniLm> {
    let Weights::Safetensors(dir) = models::model(DEFAULT_EMBEDDER).await.weights else {
        panic!("the embedder is in safetensors")
    };
    Arc::new(MiniLm::load(&dir, 2).unwrap())
}

/// Whoever asks does not wait until all of a pile of texts is embedded, and the pile is not forgotten.
#[tokio::test]
async fn a_question_goes_before_a_pile() {
    let embedder = real().await;
    let pile: Vec<String> = (0..200)
        .map(|number| format!("{number}: {}", "the ferry leaves at nine from the old pier ".repeat(8)))
        .collect();
    let mut whole = std::pin::pin!(embedder.embed(pile.clone()));
    // It is queued first.
    assert!(futures::poll!(whole.as_mut()).is_pending());
    for number in 0..4 {
        let question = format!("Where is the key number {number}?");
        tokio::select! {
            biased;
            _ = &mut whole => panic!("question {number} came after the whole pile"),
            vector = one(&*embedder, &question) => assert_eq!(vector.len(), embedder.dimensions()),
        }
    }
    let vectors = whole.await.unwrap();
    assert_eq!(vectors.len(), pile.len());
    for place in [0, 99, 199] {
        assert!(
            dot(&vectors[place], &one(&*embedder, &pile[place]).await) > 0.9999,
            "{place}"
        );
    }
}

#[tokio::test]
async fn the_double_keeps_the_laws() {
    keeps_the_laws(Arc::new(HashEmbedder::default())).await;
}

#[tokio::test]
async fn minilm_keeps_the_laws() {
    keeps_the_laws(real().await).await;
}

#[tokio::test]
async fn minilm_knows_what_belongs_together() {
    let embedder = real().await;
    assert_eq!(embedder.dimensions(), 384);
    let (name, hash) = embedder.id().split_once('@').unwrap();
    assert!(!name.is_empty() && hash.len() == 12, "{}", embedder.id());
    for (said, asked, other) in [
        (
            "My dog is called Biscuit",
            "What is the name of my dog?",
            "The stock market fell by two percent today",
        ),
        (
            "I work at the harbour",
            "Where is my job?",
            "Boil the eggs for seven minutes",
        ),
        (
            "The meeting moved to Thursday at nine",
            "When do we meet?",
            "Our cat is grey and very old",
        ),
    ] {
        let (said, asked, other) = (
            one(&*embedder, said).await,
            one(&*embedder, asked).await,
            one(&*embedder, other).await,
        );
        assert!(
            dot(&said, &asked) > dot(&other, &asked) + 0.1,
            "{} {}",
            dot(&said, &asked),
            dot(&other, &asked)
        );
    }
}

#[test]
fn a_directory_without_a_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = MiniLm::load(dir.path(), 1).err().unwrap().to_string();
    assert!(error.contains("config.json"), "{error}");
    std::fs::write(dir.path().join("config.json"), "{\"model_type\": \"llama\"}").unwrap();
    let error = MiniLm::load(dir.path(), 1).err().unwrap().to_string();
    assert!(error.contains("BERT"), "{error}");
}

/// The beginning of two vectors as another implementation gives them for the same weights: our own
/// layers compute the same model. How near they come to it is the next test's.
#[tokio::test]
async fn minilm_gives_the_models_own_vectors() {
    let embedder = real().await;
    for (text, expected) in [
        (
            "My dog is called Biscuit",
            [0.004_951_f32, -0.044_886, -0.016_015, 0.031_122, -0.122_926, -0.058_587],
        ),
        (
            "What did I say about the crane in the north harbour?",
            [-0.057_143, 0.144_216, 0.036_426, 0.010_163, 0.042_821, -0.006_098],
        ),
    ] {
        let vector = one(&*embedder, text).await;
        let worst = expected
            .iter()
            .zip(&vector)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst < 4e-3, "{text}: {:?}", &vector[..6]);
    }
}

/// The layers compute in whole numbers; what they give must be as if they did not.
#[tokio::test]
async fn minilm_is_near_what_it_gives_in_full_precision() {
    let Weights::Safetensors(dir) = models::model(DEFAULT_EMBEDDER).await.weights else {
        panic!("the embedder is in safetensors")
    };
    let config = serde_json::from_slice(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
    let weights = std::fs::read(dir.join("model.safetensors")).unwrap();
    let device = Device::Cpu;
    let weights = VarBuilder::from_buffered_safetensors(weights, DType::F32, &device).unwrap();
    let reference = BertModel::load(weights, &config).unwrap();
    let embedder = real().await;
    let long = "On Sunday we took the early ferry to the island, and walked to the lighthouse. ".repeat(6);
    for text in [
        "dog",
        "What is my dog called?",
        "Caroline: I went to a support group yesterday, and it was so powerful.",
        "The invoice of 12 May 2023 (No. 4711-B) is still unpaid: 1,204.50 EUR!",
        "SELECT title FROM advertisement JOIN bid ON bid.ad = advertisement.id",
        "orchardviolin saddlepepper quiltrocket",
        "Grüße aus 東京",
        &long,
    ] {
        let ids = Tensor::new(&embedder.encode(text)[..], &device)
            .unwrap()
            .unsqueeze(0)
            .unwrap();
        let kinds = ids.zeros_like().unwrap();
        let tokens = reference.forward(&ids, &kinds, None).unwrap();
        let mean: Vec<f32> = tokens.mean(1).unwrap().squeeze(0).unwrap().to_vec1().unwrap();
        let cosine = dot(&mean, &one(&*embedder, text).await) / dot(&mean, &mean).sqrt();
        assert!(cosine > 0.999, "{cosine} for {text}");
    }
}
