//! `habit chat` and `habit ask`.

use clap::Args;

use super::Target;

/// What is asked of the model, and how it answers.
#[derive(Debug, Clone, Default, Args)]
pub struct Asking {
    /// The model to ask [default: the server's]
    #[arg(long)]
    pub model: Option<String>,
    /// How freely it words an answer: 0 always takes the likeliest word, 2 is the most (small models ramble above 0.5)
    #[arg(long, value_name = "T", default_value_t = 0.2)]
    pub temperature: f64,
    /// The longest answer, in tokens (small models may go on and on)
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub max_tokens: usize,
}

/// Flags of `chat`.
#[derive(Debug, Clone, Default, Args)]
pub struct Chat {
    /// Where.
    #[command(flatten)]
    pub target: Target,
    /// How.
    #[command(flatten)]
    pub asking: Asking,
    /// Go on with this conversation's documents (its words are recalled, not shown again)
    #[arg(long, value_name = "ID")]
    pub conversation: Option<String>,
    /// Instructions for the model
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
}

/// Flags of `ask`.
#[derive(Debug, Clone, Default, Args)]
pub struct Ask {
    /// The question
    #[arg(required = true)]
    pub question: Vec<String>,
    /// Where.
    #[command(flatten)]
    pub target: Target,
    /// How.
    #[command(flatten)]
    pub asking: Asking,
    /// Ask within this conversation
    #[arg(long, value_name = "ID")]
    pub conversation: Option<String>,
}
