//! Mistakes in a rule are compile errors at the user's token. `TRYBUILD=overwrite` rewrites the expected messages.

#[test]
fn mistakes_are_named_at_their_token() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
