//! `derive(Params)`: a struct of parameters with defaults → reading them, and their part of the manifest.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{DeriveInput, Error, Expr, ExprLit, Lit, Result};

use crate::source::{self, Named};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let fields = source::fields(input)?;
    let ident = &input.ident;
    let names: Vec<_> = fields.iter().map(|named| named.ident).collect();
    let shown: Vec<_> = names.iter().map(|name| source::plain(name)).collect();
    let types: Vec<_> = fields.iter().map(|named| &named.field.ty).collect();
    let at: Vec<usize> = (0..fields.len()).collect();
    let constants: Vec<_> =
        names.iter().map(|name| format_ident!("DEFAULT_{}", source::plain(name))).collect();
    let values = fields.iter().map(default).collect::<Result<Vec<_>>>()?;
    let mut parts = Vec::new();
    for (n, ((named, of), constant)) in fields.iter().zip(&types).zip(&constants).enumerate() {
        let name = source::json(&source::plain(named.ident));
        let open = format!("{}{{\"name\":{name},\"is\":", source::comma(n));
        let doc = format!(",\"doc\":{}}}", source::json(&source::docs(&named.field.attrs)));
        parts.push(quote_spanned! {of.span()=>
            #open, <#of as ::retag_sdk::ParamType>::TYPE.json(), ",\"default\":",
            ::retag_sdk::manifest::Default::new(
                ::retag_sdk::derive::Raw(#ident::#constant).get(), <#of as ::retag_sdk::ParamType>::TYPE
            ).text(),
            #doc
        });
    }
    let used = source::used(input, &fields);
    Ok(quote! {
        #[allow(non_upper_case_globals)]
        impl #ident { #(const #constants: #types = #values;)* }
        impl ::retag_sdk::ParamSet for #ident {
            const JSON: &'static str = ::retag_sdk::const_join!("[", #(#parts,)* "]");
            const PARAMS: &'static [::retag_sdk::ParamInfo] = &[#(::retag_sdk::ParamInfo {
                name: #shown,
                value_type: <#types as ::retag_sdk::ParamType>::TYPE,
                default: ::retag_sdk::derive::Raw(#ident::#constants).get(),
            }),*];
            fn read(slots: &::retag_sdk::Slots<'_>) -> Self { Self { #(#names: slots.get(#at),)* } }
            fn defaults() -> Self { Self { #(#names: #ident::#constants,)* } }
        }
        #used
    })
}

/// The default as a constant expression: a text is read as the type says, and refused at its token.
fn default(named: &Named<'_>) -> Result<TokenStream> {
    let mut default = None;
    for attribute in named.field.attrs.iter().filter(|a| a.path().is_ident("param")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("default") {
                return Err(meta.error("expected `default`"));
            }
            default = Some(meta.value()?.parse::<Expr>()?);
            Ok(())
        })?;
    }
    let of = &named.field.ty;
    match default {
        None => Err(Error::new(named.ident.span(), "#[param(default = …)] is missing")),
        Some(Expr::Lit(ExprLit { lit: Lit::Str(text), .. })) => Ok(quote_spanned! {text.span()=>
            match ::retag_sdk::derive::Raw::<#of>::read(#text) {
                Ok(value) => value,
                Err(message) => panic!("{}", message),
            }
        }),
        Some(value) => Ok(quote_spanned!(value.span()=> #value)),
    }
}
