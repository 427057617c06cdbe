//! Loading a model into mistral.rs, and the running engine that results.
//!
//! A [`Runner`] is one loaded model with its engine thread. It runs one sequence at a time: measured on a CPU, several
//! at once are no faster in all, each switch between them copies the whole key-value cache, and sequences that were
//! begun from the prefix cache can't be batched safely with others. Requests queue outside, where they can leave.

use std::{
    any::Any,
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mistralrs::{
    AnyModelBuilder, GgufModelBuilder, Model, ModelBuilder, model_builder_trait::build_model_from_pipeline,
};
use mistralrs_core::{DeviceMapSetting, ModelDType, Request, TokenSource, llguidance::ParserFactory};
use tokenizers::Tokenizer;
use tokio::sync::{mpsc::Sender, oneshot};

use super::{
    EmbeddedOptions,
    cache::{CACHE_BLOCK, PrefixCache},
};
use crate::{
    EngineError,
    generate::template::TemplateSource,
    models::{LocalModel, Weights, gguf},
};

/// Models run on the processor, in single precision; in a build for GPUs on the first one, as precisely as their files.
const ON_CPU: bool = !cfg!(feature = "cuda");

/// How long the engine's thread may take to end after its last token when the prefix cache is emptied.
const RECYCLE_TIME: Duration = Duration::from_secs(10);

/// A loaded model and its engine thread.
pub(super) struct Runner {
    model: Model,
    sender: Mutex<Sender<Request>>,
    /// Held while the engine thread is replaced on purpose, so that its end is not taken for a crash.
    recycling: tokio::sync::Mutex<()>,
    pub(super) grammars: Option<Arc<ParserFactory>>,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) ends: Arc<HashSet<u32>>,
    pub(super) closing: u32,
    pub(super) cache: Arc<PrefixCache>,
    /// Tokens that a prompt and its reply may have together.
    pub(super) window: usize,
}

/// Loads a model on a thread of its own: loading blocks, it may panic, and it leaves settings in thread-locals.
pub(super) async fn load(model: &LocalModel, options: &EmbeddedOptions) -> Result<Runner, EngineError> {
    let failed = |reason: String| {
        let (Weights::Gguf(path) | Weights::Safetensors(path)) = &model.weights;
        EngineError::Unavailable(format!(
            "the model `{}` ({}) can't be loaded: {reason}",
            model.id,
            path.display()
        ))
    };
    let (sender, receiver) = oneshot::channel();
    let (model, options) = (model.clone(), options.clone());
    let thread = std::thread::Builder::new().name("habit-load".to_owned());
    let loading = thread.spawn(move || sender.send(build(&model, &options)).ok());
    let thread = loading.map_err(|error| failed(format!("no thread could be started: {error}")))?;
    match receiver.await {
        Ok(runner) => runner.map_err(failed),
        // The thread dropped its end: it panicked, and is over.
        Err(_) => Err(failed(
            thread
                .join()
                .map_or_else(|panic| panic_message(&*panic), |_| "it gave up".to_owned()),
        )),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the loader panicked without a message").to_owned()
}

fn build(model: &LocalModel, options: &EmbeddedOptions) -> Result<Runner, String> {
    // A file may have been damaged since it was prepared, and a damaged one can end the whole process in the loader.
    if let Weights::Gguf(path) = &model.weights {
        gguf::inspect(path).map_err(|error| error.to_string())?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(|error| error.to_string())?
        .block_on(build_runner(model, options))
}

async fn build_runner(model: &LocalModel, options: &EmbeddedOptions) -> Result<Runner, String> {
    let builder = builder(model)?;
    let (pipeline, scheduler, mut config) = builder.build_pipeline().await.map_err(|error| format!("{error:#}"))?;
    let (metadata, tokenizer) = {
        let pipeline = pipeline.lock().await;
        (pipeline.get_metadata(), pipeline.tokenizer())
    };
    let tokenizer = tokenizer.ok_or("it has no tokenizer")?;
    let grammars = metadata.llg_factory.clone();
    let ends: HashSet<u32> = metadata.eos_tok.iter().copied().collect();
    let closing = closing_token(&tokenizer, &ends, grammars.as_deref());
    let budget = if closing.is_some() {
        options.prefix_cache_bytes
    } else {
        0
    };
    let closing = closing
        .or_else(|| ends.iter().min().copied())
        .ok_or("it names no token that ends a turn; add `eos_token` to its tokenizer_config.json")?;
    config.engine_config.no_prefix_cache = budget == 0;

    let bytes = metadata.model_metadata.as_ref().map_or(0, |shape| {
        let layer = |layer| {
            let heads = shape.num_kv_heads_for_layer(layer);
            heads * (shape.k_head_dim_for_layer(layer) + shape.v_head_dim_for_layer(layer))
        };
        (0..shape.num_layers()).map(layer).sum::<usize>() * metadata.activation_dtype.size_in_bytes()
    });
    let limits = [model.context_window, options.context_window];
    let window = limits.into_iter().flatten().fold(metadata.max_seq_len, usize::min);

    let model = build_model_from_pipeline(pipeline, scheduler, config).await;
    let sender = model.inner().get_sender(None).map_err(|error| error.to_string())?;
    Ok(Runner {
        model,
        sender: Mutex::new(sender),
        recycling: tokio::sync::Mutex::new(()),
        grammars,
        tokenizer,
        ends: Arc::new(ends),
        closing,
        cache: Arc::new(PrefixCache::new(budget, bytes as u64)),
        window: usable(window),
    })
}

/// What of a window the key-value cache can hold: it grows in whole blocks and not over the model's window.
fn usable(window: usize) -> usize {
    if window > CACHE_BLOCK {
        window / CACHE_BLOCK * CACHE_BLOCK
    } else {
        window
    }
}

fn builder(model: &LocalModel) -> Result<AnyModelBuilder, String> {
    let text = |path: &Path| {
        let path = path
            .to_str()
            .ok_or_else(|| format!("the path {} is not UTF-8; rename it", path.display()))?;
        Ok::<_, String>(if path.is_empty() {
            ".".to_owned()
        } else {
            path.to_owned()
        })
    };
    // No device mapping: whether the model fits in memory is for the model store to say.
    Ok(match &model.weights {
        Weights::Gguf(path) => {
            let file = path
                .file_name()
                .map(Path::new)
                .ok_or_else(|| format!("{} is no file", path.display()))?;
            let dir = text(path.parent().unwrap_or(Path::new(".")))?;
            let mut builder = GgufModelBuilder::new(dir, vec![text(file)?])
                .with_token_source(TokenSource::None)
                .with_device_mapping(DeviceMapSetting::dummy())
                .with_max_num_seqs(1);
            if ON_CPU {
                builder = builder.with_force_cpu();
            }
            if let Some(dir) = &model.tokenizer_dir {
                builder = builder.with_tok_model_id(text(dir)?);
            }
            AnyModelBuilder::Gguf(builder)
        }
        Weights::Safetensors(dir) => {
            let mut builder = ModelBuilder::new(text(dir)?)
                .with_token_source(TokenSource::None)
                .with_device_mapping(DeviceMapSetting::dummy())
                .with_max_num_seqs(1);
            if ON_CPU {
                builder = builder.with_force_cpu().with_dtype(ModelDType::F32);
            }
            AnyModelBuilder::Auto(builder)
        }
    })
}

/// The chat template and special tokens of a model, from where its tokenizer is.
pub(super) fn template_source(model: &LocalModel) -> Result<TemplateSource, String> {
    match (&model.tokenizer_dir, &model.weights) {
        (Some(dir), _) | (None, Weights::Safetensors(dir)) => TemplateSource::from_dir(dir),
        (None, Weights::Gguf(path)) => gguf::inspect(path)
            .map(|file| TemplateSource::from_gguf(&file))
            .map_err(|error| error.to_string()),
    }
}

/// A special token that ends no turn, at which the engine can be made to stop (see [`super::picker`]). The engine
/// refuses one whose bytes begin another token's.
fn closing_token(tokenizer: &Tokenizer, ends: &HashSet<u32>, grammars: Option<&ParserFactory>) -> Option<u32> {
    let environment = grammars?.tok_env();
    let trie = environment.tok_trie();
    let added = tokenizer
        .get_added_tokens_decoder()
        .into_iter()
        .filter(|(_, token)| token.special);
    let fit =
        |id: &u32| !ends.contains(id) && (*id as usize) < trie.vocab_size() && !trie.has_extensions(trie.token(*id));
    added.map(|(id, _)| id).filter(fit).min()
}

impl Runner {
    /// The way to the engine's thread; closed when it is dead.
    pub(super) fn sender(&self) -> Sender<Request> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn next_id(&self) -> usize {
        self.model.inner().next_request_id()
    }

    /// Waits until the engine's thread has died of something else than [`Runner::recycle`].
    pub(super) async fn crashed(&self) {
        loop {
            self.sender().closed().await;
            let _not_recycling = self.recycling.lock().await;
            if self.sender().is_closed() {
                return;
            }
        }
    }

    /// Empties the prefix cache by replacing the engine's thread; the weights stay. Only between replies.
    ///
    /// mistral.rs never evicts what it keeps on a CPU, so this is what bounds it.
    pub(super) async fn recycle(&self) -> Result<(), EngineError> {
        let _recycling = self.recycling.lock().await;
        let failed = |reason: &dyn std::fmt::Display| {
            EngineError::Unavailable(format!(
                "the engine is restarting ({reason}); try again in a few seconds"
            ))
        };
        let old = self.sender();
        // Refused only by a thread that is gone already.
        old.send(Request::Terminate).await.ok();
        let deadline = tokio::time::Instant::now() + RECYCLE_TIME;
        tokio::time::timeout_at(deadline, old.closed())
            .await
            .map_err(|_| failed(&"its thread did not end"))?;
        loop {
            let new = self.model.inner().get_sender(None).map_err(|error| failed(&error))?;
            if !new.is_closed() {
                *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = new;
                self.cache.clear();
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return Err(failed(&"its thread did not start again"));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Makes the engine's thread panic: it answers a question whose asker has left.
    #[cfg(feature = "testing")]
    pub(super) async fn crash(&self) {
        let (response, _) = tokio::sync::mpsc::channel(1);
        let question = mistralrs_core::DetokenizationRequest {
            tokens: vec![0],
            skip_special_tokens: false,
            response,
        };
        self.sender().send(Request::Detokenize(question)).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::{panic_message, usable};

    #[test]
    fn windows_are_whole_blocks() {
        assert_eq!(
            [usable(8192), usable(2047), usable(512), usable(100)],
            [8192, 1536, 512, 100]
        );
    }

    #[test]
    fn panics_keep_their_message() {
        assert_eq!(panic_message(&"short"), "short");
        assert_eq!(panic_message(&"long".to_owned()), "long");
        assert!(panic_message(&5).contains("without a message"));
    }
}
