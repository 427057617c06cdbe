//! The laws of [`Engine`], as a suite that runs over any engine: over doubles whose model repeats the last message, and
//! over real models, whose replies are held against what they say alone.

use std::sync::Arc;

use futures::StreamExt;
use habit_engine::{
    ChatRequest, Delta, DeltaStream, Engine, EngineError, FinishReason, Health, Message, Role, Sampling, Usage,
};

/// What is known of the model's replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// The last message again.
    TheSame,
    /// What it likes, the same every time; the prompts of the suite make it say more than a few words.
    Anything,
}

/// Checks every law that can be seen from outside.
pub async fn engine(engine: Arc<dyn Engine>, model: &str, says: Says) {
    let suite = Suite { engine, model, says };
    suite.lists_its_model().await;
    suite.ends_with_one_finish().await;
    suite.refuses_unknown_models().await;
    suite.refuses_what_does_not_fit().await;
    suite.keeps_stop_strings_back().await;
    suite.keeps_to_max_tokens().await;
    suite.survives_dropped_streams().await;
    suite.answers_several_at_once().await;
    suite.waits_for_no_reader().await;
}

struct Suite<'a> {
    engine: Arc<dyn Engine>,
    model: &'a str,
    says: Says,
}

/// The whole reply; panics where the stream breaks its laws.
async fn whole(mut stream: DeltaStream) -> (String, FinishReason, Usage) {
    let mut text = String::new();
    let mut stopped = false;
    loop {
        match stream
            .next()
            .await
            .expect("a stream ends with a finish")
            .expect("this reply does not fail")
        {
            Delta::Text(piece) => {
                assert!(!piece.is_empty(), "deltas are never empty");
                assert!(!stopped, "nothing but the finish follows the stop string");
                text.push_str(&piece);
            }
            Delta::StopString(_) => stopped = true,
            Delta::Finish { reason, usage } => {
                assert!(stream.next().await.is_none(), "nothing follows the finish");
                return (text, reason, usage);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

impl Suite<'_> {
    fn ask(&self, text: &str) -> ChatRequest {
        let system = match self.says {
            Says::TheSame => "Repeat.",
            Says::Anything => "Answer with a long story.",
        };
        ChatRequest {
            model: self.model.into(),
            messages: vec![Message::new(Role::System, system), Message::new(Role::User, text)],
            sampling: Sampling {
                temperature: Some(0.0),
                seed: Some(7),
                ..Sampling::default()
            },
            max_tokens: (self.says == Says::Anything).then_some(12),
            ..ChatRequest::default()
        }
    }

    async fn start(&self, request: ChatRequest) -> DeltaStream {
        self.engine.chat(request).await.unwrap()
    }

    /// What the model says to this, alone.
    async fn reply_to(&self, text: &str) -> String {
        match self.says {
            Says::TheSame => text.to_owned(),
            Says::Anything => whole(self.start(self.ask(text)).await).await.0,
        }
    }

    async fn lists_its_model(&self) {
        assert_eq!(self.engine.health().await, Health::Ready);
        let mut models = self.engine.models().into_iter();
        let info = models.find(|info| info.id == self.model).expect("its model is listed");
        let counter = self.engine.token_counter(self.model).expect("its model can be counted");
        assert_eq!(
            info.context_window.unwrap_or(counter.context_window()),
            counter.context_window()
        );
        assert!(self.engine.token_counter("no-such-model").is_none());

        let (one, two) = (
            vec![Message::new(Role::User, "one")],
            vec![Message::new(Role::User, "one"); 2],
        );
        assert!(counter.count_chat(&one).unwrap() >= counter.count("one"));
        assert!(counter.count_chat(&two).unwrap() > counter.count_chat(&one).unwrap());
    }

    async fn ends_with_one_finish(&self) {
        let said = "Grüße 🐕‍🦺 from the harbour, \"quoted\"\nand broken.";
        let expected = self.reply_to(said).await;
        let request = self.ask(said);
        let counter = self.engine.token_counter(self.model).unwrap();
        let (text, reason, usage) = whole(self.start(request.clone()).await).await;
        assert_eq!(text, expected);
        assert!(usage.prompt_tokens > 0 && usage.completion_tokens > 0, "{usage:?}");
        match self.says {
            Says::TheSame => assert_eq!(reason, FinishReason::Stop),
            Says::Anything => assert_eq!((reason, usage.completion_tokens), (FinishReason::Length, 12)),
        }
        if counter.is_exact() {
            assert_eq!(usage.prompt_tokens, counter.count_request(&request).unwrap());
        }
    }

    async fn refuses_unknown_models(&self) {
        let unknown = ChatRequest {
            model: "no-such-model".into(),
            ..self.ask("hi")
        };
        match self.engine.chat(unknown).await.err() {
            Some(EngineError::UnknownModel { model, available }) => {
                assert_eq!(model, "no-such-model");
                assert!(!available.is_empty());
            }
            other => panic!("an unknown model gives {other:?}"),
        }
    }

    async fn refuses_what_does_not_fit(&self) {
        let window = self.engine.token_counter(self.model).unwrap().context_window();
        let expected = self.reply_to("still here").await;
        let error = self.engine.chat(self.ask(&"word ".repeat(window))).await.err();
        assert!(
            matches!(error, Some(EngineError::ContextLengthExceeded { limit, .. }) if limit == window),
            "{error:?}"
        );
        let (text, ..) = whole(self.start(self.ask("still here")).await).await;
        assert_eq!(text, expected);
    }

    async fn keeps_stop_strings_back(&self) {
        let said = "before END after";
        let expected = self.reply_to(said).await;
        let stop = match self.says {
            Says::TheSame => "END".to_owned(),
            Says::Anything => expected.chars().skip(5).take(4).collect(),
        };
        let mut request = self.ask(said);
        request.stop = vec![stop.clone(), "never".into()];
        let (text, reason, _) = whole(self.start(request).await).await;
        let (before, _) = expected.split_once(&stop).expect("it is said");
        assert_eq!((text.as_str(), reason), (before, FinishReason::Stop));
    }

    async fn keeps_to_max_tokens(&self) {
        let mut request = self.ask(&"many words ".repeat(50));
        request.max_tokens = Some(3);
        let (_, reason, usage) = whole(self.start(request).await).await;
        assert_eq!(reason, FinishReason::Length);
        assert!(usage.completion_tokens <= 3, "{usage:?}");
    }

    async fn survives_dropped_streams(&self) {
        let expected = self.reply_to("whole").await;
        for _ in 0..10 {
            let mut stream = self.start(self.ask("one two three")).await;
            stream.next().await;
            drop(stream);
        }
        let (text, ..) = whole(self.start(self.ask("whole")).await).await;
        assert_eq!(text, expected);
    }

    async fn answers_several_at_once(&self) {
        let mut expected = Vec::new();
        for n in 0..6 {
            expected.push(self.reply_to(&format!("number {n}")).await);
        }
        let replies = (0..6).map(|n| {
            let (engine, request) = (Arc::clone(&self.engine), self.ask(&format!("number {n}")));
            tokio::spawn(async move { whole(engine.chat(request).await.unwrap()).await.0 })
        });
        for (reply, expected) in futures::future::join_all(replies).await.into_iter().zip(expected) {
            assert_eq!(reply.unwrap(), expected);
        }
    }

    /// A reader that takes one piece and no more leaves the others their turn, and its own reply whole.
    async fn waits_for_no_reader(&self) {
        let (slow, quick) = ("a slow reader's words", "a quick one");
        let (slow_says, quick_says) = (self.reply_to(slow).await, self.reply_to(quick).await);
        let mut stream = self.start(self.ask(slow)).await;
        let Some(Ok(Delta::Text(first))) = stream.next().await else {
            panic!("a reply begins with text")
        };
        let (text, ..) = whole(self.start(self.ask(quick)).await).await;
        assert_eq!(text, quick_says);
        let (rest, ..) = whole(stream).await;
        assert_eq!(first + &rest, slow_says);
    }
}
