//! Whether this machine can run the code that was compiled for it.

use crate::EngineError;

/// What `x86-64-v3`, the level that Habit is compiled for, needs over plain x86-64, as Linux names it.
const NEEDED: [&str; 5] = ["avx2", "fma", "bmi2", "f16c", "movbe"];

/// Checks that the processor has the instructions that the quantised kernels are compiled to. To be called before
/// anything else: without them the program would end with an illegal instruction.
///
/// Asked of the kernel, because the compiler answers for itself once it may use the instructions.
///
/// # Errors
/// [`EngineError::Unavailable`] naming what is missing and what to do.
pub fn check_cpu() -> Result<(), EngineError> {
    if !cfg!(all(target_arch = "x86_64", target_feature = "avx2")) {
        return Ok(());
    }
    // Other systems than Linux, and a /proc that is not mounted: nothing is known against the processor.
    let Ok(info) = std::fs::read_to_string("/proc/cpuinfo") else {
        return Ok(());
    };
    let missing = missing(&info);
    if missing.is_empty() {
        return Ok(());
    }
    Err(EngineError::Unavailable(format!(
        "this processor lacks {} and can't run this build of Habit; run it on an x86-64 processor made since about 2015, \
         or build it here without the target-cpu line of .cargo/config.toml (slower)",
        missing.join(", ")
    )))
}

/// The needed features that the first processor does not have.
fn missing(cpuinfo: &str) -> Vec<&'static str> {
    let flags = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags")?.split_once(':'));
    let Some((_, flags)) = flags else { return Vec::new() };
    let flags: Vec<&str> = flags.split_whitespace().collect();
    NEEDED.into_iter().filter(|needed| !flags.contains(needed)).collect()
}

#[cfg(test)]
mod tests {
    use super::{check_cpu, missing};

    #[test]
    fn what_is_missing_is_named() {
        let old = "processor\t: 0\nflags\t\t: fpu sse4_2 avx f16c movbe\n\nprocessor\t: 1\n";
        assert_eq!(missing(old), ["avx2", "fma", "bmi2"]);
        assert_eq!(missing("flags\t\t: avx2 fma bmi2 f16c movbe"), [""; 0]);
        assert_eq!(missing("Features\t: neon"), [""; 0]);
    }

    #[test]
    fn the_machine_that_runs_the_tests_is_good_enough() {
        check_cpu().expect("a processor that runs this build");
    }
}
