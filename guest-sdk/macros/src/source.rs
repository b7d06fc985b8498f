//! Reading the user's source: named fields, doc comments, names, lifetimes; and text on its way into JSON.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::spanned::Spanned as _;
use syn::visit_mut::{self, VisitMut};
use syn::{
    Attribute, Data, DataStruct, DeriveInput, Error, Expr, ExprLit, Field, Fields, Lifetime, Lit, LitStr,
};
use syn::{Meta, MetaNameValue, Result, Type, TypeReference};

/// A field with its name.
pub(crate) struct Named<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) field: &'a Field,
}

/// The fields of a struct with named fields.
pub(crate) fn fields(input: &DeriveInput) -> Result<Vec<Named<'_>>> {
    let Data::Struct(DataStruct { fields: Fields::Named(fields), .. }) = &input.data else {
        return Err(Error::new(input.ident.span(), "a struct with named fields is expected"));
    };
    Ok(fields.named.iter().filter_map(Named::of).collect())
}

impl<'a> Named<'a> {
    fn of(field: &'a Field) -> Option<Self> {
        Some(Self { ident: field.ident.as_ref()?, field })
    }
}

/// The name without `r#`.
pub(crate) fn plain(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map(str::to_owned).unwrap_or(name)
}

/// `#[attribute(name = "…")]`, else the name of the field or variant.
pub(crate) fn renamed(attributes: &[Attribute], attribute: &str, otherwise: String) -> Result<String> {
    let mut name = otherwise;
    for found in attributes.iter().filter(|a| a.path().is_ident(attribute)) {
        found.parse_nested_meta(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("expected `name`"));
            }
            name = meta.value()?.parse::<LitStr>()?.value();
            Ok(())
        })?;
    }
    Ok(name)
}

/// The doc comment, a line per line.
pub(crate) fn docs(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(MetaNameValue {
            path,
            value: Expr::Lit(ExprLit { lit: Lit::Str(text), .. }),
            ..
        }) if path.is_ident("doc") => Some(text.value().trim().to_owned()),
        _ => None,
    };
    attributes.iter().filter_map(line).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// `text` as a JSON string.
pub(crate) fn json(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            c if c < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

/// The type with all its lifetimes `'static`, for constants.
pub(crate) fn with_static(of: &Type) -> Type {
    struct Statics;
    impl VisitMut for Statics {
        fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
            lifetime.ident = Ident::new("static", lifetime.ident.span());
        }
        fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
            reference.lifetime = Some(Lifetime::new("'static", reference.and_token.span()));
            visit_mut::visit_type_reference_mut(self, reference);
        }
    }
    let mut of = of.clone();
    Statics.visit_type_mut(&mut of);
    of
}

/// Reads each field once: fields that exist only for the manifest are not dead code.
pub(crate) fn used(input: &DeriveInput, fields: &[Named<'_>]) -> TokenStream {
    let name = &input.ident;
    let fields = fields.iter().map(|named| named.ident);
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    quote! {
        #[allow(dead_code)]
        const _: () = {
            fn used #generics (this: &#name #arguments) #bounds { #(let _ = &this.#fields;)* }
        };
    }
}

/// A rule's, entity's or label's name: it stands in keys, paths and topics.
pub(crate) fn check_name(name: &str, span: Span) -> Result<()> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(word) {
        return Ok(());
    }
    Err(Error::new(span, "a name is made of a-z, 0-9 and _, and begins with a letter"))
}

/// A duration such as "7d".
pub(crate) fn check_duration(text: &LitStr) -> Result<()> {
    let value = text.value();
    let number = value.strip_suffix(['s', 'm', 'h', 'd']).and_then(|n| n.parse::<u32>().ok());
    match number {
        Some(n) if n > 0 => Ok(()),
        _ => Err(Error::new(text.span(), "a duration is a number and s, m, h or d: \"7d\"")),
    }
}

/// A comma before all but the first.
pub(crate) fn comma(n: usize) -> &'static str {
    if n == 0 { "" } else { "," }
}

/// An error where the whole struct is meant.
pub(crate) fn missing(input: &DeriveInput, message: &str) -> Error {
    Error::new(input.ident.span(), message)
}
