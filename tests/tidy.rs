//! The rules of the repository as tests: a rule that matters is not left to prose.
//!
//! Each rule is a function from text to what is wrong with it, with tests of its own that a violation is found; the
//! tests in this file hold it against the repository.

#[path = "tidy/edges.rs"]
mod edges;
#[path = "tidy/packages.rs"]
mod packages;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/surfaces.rs"]
mod surfaces;
#[path = "tidy/text.rs"]
mod text;

use std::path::Path;
use std::process::Command;

use self::source::{Source, files, product_sources};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn repository() -> Vec<(String, String)> {
    files(Path::new(ROOT))
}

/// Every Rust file, tests and benches included.
fn rust(files: &[(String, String)]) -> impl Iterator<Item = &(String, String)> {
    files.iter().filter(|(path, _)| path.ends_with(".rs"))
}

fn documents(files: Vec<(String, String)>) -> Vec<(String, String)> {
    let is_document =
        |path: &str| path == "README.md" || (path.starts_with("docs/") && path.ends_with(".md"));
    files.into_iter().filter(|(path, _)| is_document(path)).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
fn none(violations: impl IntoIterator<Item = String>) {
    let violations: Vec<_> = violations.into_iter().collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn parts_use_only_what_the_map_allows() {
    let table = edges::table(&read("src/architecture.md"));
    assert!(table.len() > 10, "the map has its table: {table:?}");
    none(
        product_sources(&repository())
            .iter()
            .flat_map(|source| edges::check(&table, source)),
    );
}

#[test]
fn every_file_says_what_it_is_for() {
    none(rust(&repository()).flat_map(|(path, text)| text::head(path, text)));
}

#[test]
fn no_file_is_too_long() {
    let files = repository();
    let beside = rust(&files).filter(|(path, _)| !path.starts_with("src/"));
    let mut sources = product_sources(&files);
    sources.extend(beside.map(|(path, text)| Source::new(path, text)));
    none(sources.iter().flat_map(text::size));
}

#[test]
fn no_lint_is_allowed() {
    // String contents are blanked: the rule's own test has to write the attribute down.
    none(rust(&repository()).flat_map(|(path, text)| text::allow(path, &Source::new(path, text).code)));
}

#[test]
fn spawning_clocks_and_panics_are_where_they_belong() {
    none(product_sources(&repository()).iter().flat_map(text::only_in));
}

#[test]
fn nothing_is_left_unfinished() {
    none(
        repository()
            .iter()
            .flat_map(|(path, text)| text::unfinished(path, text)),
    );
}

#[test]
fn nothing_is_true_of_one_machine_alone() {
    let files = repository();
    none(
        files
            .iter()
            .filter(|(path, _)| path != "Cargo.lock")
            .flat_map(|(path, text)| text::local(path, text, ROOT)),
    );
}

#[test]
fn one_file_stands_for_yaml() {
    none(text::named_once(&product_sources(&repository()), "serde_yaml"));
}

#[test]
fn metrics_are_documented_and_documented_metrics_exist() {
    let files = repository();
    none(surfaces::metrics(&product_sources(&files), &documents(files)));
}

#[test]
fn admin_calls_are_documented() {
    let files = repository();
    none(surfaces::routes(&product_sources(&files), &documents(files)));
}

#[test]
fn every_dependency_is_used() {
    let (files, manifest) = (repository(), read("Cargo.toml"));
    let all: Vec<_> = rust(&files).map(|(path, text)| Source::new(path, text)).collect();
    let unused = packages::unused(&manifest, "dependencies", &product_sources(&files));
    // Tests inside product files use development dependencies too, so the whole text counts for those.
    let whole = all
        .into_iter()
        .map(|source| Source {
            code: source.text.clone(),
            ..source
        })
        .collect::<Vec<_>>();
    none(
        unused
            .into_iter()
            .chain(packages::unused(&manifest, "dev-dependencies", &whole)),
    );
}

#[test]
fn licences_and_packages_are_accepted() {
    let arguments = [
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    none(packages::refused(
        &serde_json::from_slice(&output.stdout).unwrap(),
        &read(".deny.toml"),
    ));
}
