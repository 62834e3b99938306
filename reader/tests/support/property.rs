// How property tests run.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::FileFailurePersistence;

/// `PROPTEST_CASES` cases, or this many where it is not set; what fails is kept in `file`, below
/// the crate's folder, and tried first from then on.
pub fn config(cases: u32, file: &'static str) -> ProptestConfig {
    let told = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::with_cases(told.and_then(|n| n.parse().ok()).unwrap_or(cases))
    }
}
