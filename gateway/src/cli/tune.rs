//! The flags of `habit models tune`.

use clap::Args;

/// Which model is tuned, and what becomes of what was found.
#[derive(Debug, Clone, Default, Args)]
pub struct Tune {
    /// As for `habit serve --model` [default: the one that `habit serve` runs]
    pub model: Option<String>,
    /// Also try 4 bits a weight: often faster, and always less exact
    #[arg(long)]
    pub four_bits: bool,
    /// Show what was found before, for all models
    #[arg(long, conflicts_with_all = ["forget", "four_bits"])]
    pub show: bool,
    /// Forget what was found: for this model, or for all if none is named
    #[arg(long, conflicts_with = "four_bits")]
    pub forget: bool,
    /// Measure this one setting (JSON) and print what it gives; `tune` starts itself so, once a setting
    #[arg(long, hide = true, value_name = "SETTING", conflicts_with_all = ["show", "forget"])]
    pub only: Option<String>,
}
