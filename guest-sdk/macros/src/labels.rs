//! `derive(Labels)` and `derive(LabelValue)`: what a key carries → u16 slots, and the labels' part of the manifest.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Data, DeriveInput, Error, Fields, Result};

use crate::source;

const VALUES_MAX: usize = 256;

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let fields = source::fields(input)?;
    if fields.is_empty() {
        return Err(source::missing(input, "a rule has at least one label"));
    }
    let ident = &input.ident;
    let idents: Vec<_> = fields.iter().map(|named| named.ident).collect();
    let types: Vec<_> = fields.iter().map(|named| &named.field.ty).collect();
    let mut names: Vec<String> = Vec::new();
    let mut parts = Vec::new();
    for (n, named) in fields.iter().enumerate() {
        let name = source::renamed(&named.field.attrs, "label", source::plain(named.ident))?;
        source::check_name(&name, named.ident.span())?;
        if names.contains(&name) {
            return Err(Error::new(named.ident.span(), format!("two labels are named `{name}`")));
        }
        let of = &named.field.ty;
        let open = format!("{}{{\"name\":{},\"values\":", source::comma(n), source::json(&name));
        let doc = format!(",\"doc\":{}}}", source::json(&source::docs(&named.field.attrs)));
        parts.push(quote_spanned!(of.span()=> #open, <#of as ::retag_sdk::LabelField>::JSON, #doc));
        names.push(name);
    }
    let slots = idents
        .iter()
        .map(|field| quote_spanned!(field.span()=> set.push(::retag_sdk::LabelField::slot(&self.#field));));
    let used = source::used(input, &fields);
    Ok(quote! {
        impl ::retag_sdk::LabelSet for #ident {
            const JSON: &'static str = ::retag_sdk::const_join!("[", #(#parts,)* "]");
            const LABELS: &'static [::retag_sdk::LabelInfo] = &[#(::retag_sdk::LabelInfo {
                name: #names, values: <#types as ::retag_sdk::LabelField>::VALUES,
            }),*];
            const NONE: Self = Self { #(#idents: <#types as ::retag_sdk::LabelField>::NONE,)* };
            fn write(&self, set: &mut ::retag_sdk::alloc::vec::Vec<u16>) { #(#slots)* }
        }
        #used
    })
}

pub(crate) fn derive_value(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(source::missing(input, "an enum without fields is expected"));
    };
    if data.variants.is_empty() || data.variants.len() > VALUES_MAX {
        return Err(source::missing(input, "a label has between 1 and 256 values"));
    }
    let mut names: Vec<String> = Vec::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new(variant.span(), "a label's value has no fields"));
        }
        let name = source::renamed(&variant.attrs, "label", snake(&source::plain(&variant.ident)))?;
        source::check_name(&name, variant.ident.span())?;
        if names.contains(&name) {
            return Err(Error::new(variant.ident.span(), format!("two values are named `{name}`")));
        }
        names.push(name);
    }
    let ident = &input.ident;
    let variants = data.variants.iter().map(|variant| &variant.ident);
    let numbers: Vec<u16> = (0..=u16::MAX).take(names.len()).collect();
    let quoted: Vec<String> = names.iter().map(|name| source::json(name)).collect();
    let json = format!("[{}]", quoted.join(","));
    Ok(quote! {
        impl ::retag_sdk::LabelValue for #ident {
            const VALUES: &'static [&'static str] = &[#(#names),*];
            const JSON: &'static str = #json;
            #[inline]
            fn index(self) -> u16 { match self { #(Self::#variants => #numbers,)* } }
        }
    })
}

/// `BigSpender` → `big_spender`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (n, c) in name.chars().enumerate() {
        if c.is_uppercase() && n > 0 {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}
