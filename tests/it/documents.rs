//! What the documents say about the product is what the product says about itself.

const README: &str = include_str!("../../README.md");

#[test]
fn the_reference_in_the_readme_is_the_generated_one() {
    let (_, rest) = README
        .split_once("<!-- reference:begin -->\n")
        .expect("the README has a reference");
    let (reference, _) = rest
        .split_once("<!-- reference:end -->")
        .expect("the reference ends");
    assert!(
        reference == outrigger::config::reference(),
        "put the output of `outrigger config reference` between the reference markers of README.md"
    );
}

#[test]
fn the_openapi_document_names_nothing_that_the_readme_leaves_out() {
    let document = serde_json::to_value(outrigger::admin::openapi()).expect("the document is JSON");
    let paths = document["paths"].as_object().expect("the document has paths");
    let named: Vec<String> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().into_iter().flat_map(|item| item.keys());
            methods.map(move |method| format!("`{} {path}", method.to_uppercase()))
        })
        .collect();
    for operation in &named {
        assert!(README.contains(operation), "README.md does not name {operation}`");
    }
    assert!(named.len() >= 15, "{named:?}");
}
