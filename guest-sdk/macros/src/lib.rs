//! The derives of the Retag rule SDK: user structs → the traits of `retag_sdk`, with errors at the user's token.
//!
//! A macro sees tokens, not types, so everything about a type (its manifest text, whether it takes NULL, whether it can
//! be a key) is asked of a trait constant in the emitted code, spanned at the type. One file per derive.

mod aggregates;
mod labels;
mod params;
mod row;
mod rule;
mod source;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// A row of one table: `#[row(table = "shop.orders", key = user_id)]`; `#[column(name = "type")]` renames a field.
#[proc_macro_derive(Row, attributes(row, column))]
pub fn row(input: TokenStream) -> TokenStream {
    finish(row::derive(&parse_macro_input!(input as DeriveInput)))
}

/// The aggregates of a rule; `#[window(last = "7d", tile = "1h", by = Order::mtime)]` on a field.
#[proc_macro_derive(Aggregates, attributes(window))]
pub fn aggregates(input: TokenStream) -> TokenStream {
    finish(aggregates::derive(&parse_macro_input!(input as DeriveInput)))
}

/// The parameters of a rule: `#[param(default = "5000.00")]` on each field, its doc comment goes into the manifest.
#[proc_macro_derive(Params, attributes(param))]
pub fn params(input: TokenStream) -> TokenStream {
    finish(params::derive(&parse_macro_input!(input as DeriveInput)))
}

/// The labels of a rule: `bool` and `Option<enum>` fields; `#[label(name = "…")]` renames.
#[proc_macro_derive(Labels, attributes(label))]
pub fn labels(input: TokenStream) -> TokenStream {
    finish(labels::derive(&parse_macro_input!(input as DeriveInput)))
}

/// The values of a label: an enum without fields, named in snake case; `#[label(name = "…")]` renames.
#[proc_macro_derive(LabelValue, attributes(label))]
pub fn label_value(input: TokenStream) -> TokenStream {
    finish(labels::derive_value(&parse_macro_input!(input as DeriveInput)))
}

/// The rule: `#[rule(name = "payer", entity = "user")] impl Payer { fn map_order(…) … fn label(…) … }`.
#[proc_macro_attribute]
pub fn rule(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let source = proc_macro2::TokenStream::from(item.clone());
    let block = parse_macro_input!(item as syn::ItemImpl);
    // On an error the user's code still stands, so that nothing else seems to be missing.
    let emitted = rule::expand(attribute.into(), block).unwrap_or_else(|error| {
        let error = error.to_compile_error();
        quote::quote!(#source #error)
    });
    emitted.into()
}

fn finish(emitted: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    emitted.unwrap_or_else(|error| error.to_compile_error()).into()
}
