//! `derive(Aggregates)`: a struct of kinds → write handles, readings and the aggregates' part of the manifest.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Attribute, DeriveInput, Error, LitStr, Path, Result};

use crate::source::{self, Named};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let fields = source::fields(input)?;
    let ids: Vec<u16> = (0..=u16::MAX).take(fields.len()).collect();
    if fields.is_empty() || ids.len() < fields.len() {
        return Err(source::missing(input, "a rule has at least one aggregate"));
    }
    let (ident, visibility) = (&input.ident, &input.vis);
    let (sums, add) = (format_ident!("{ident}Sums"), format_ident!("{ident}Add"));
    let names: Vec<_> = fields.iter().map(|named| named.ident).collect();
    let shown: Vec<_> = names.iter().map(|name| source::plain(name)).collect();
    let views: Vec<_> = fields.iter().map(|named| &named.field.vis).collect();
    let kinds: Vec<_> = fields.iter().map(|named| &named.field.ty).collect();
    let at: Vec<usize> = (0..fields.len()).collect();
    let Manifest { json, checks, errors } = manifest(&fields);
    let used = source::used(input, &fields);
    let column = quote!(::retag_sdk::Column);
    let kinds: Vec<_> =
        kinds.iter().map(|kind| quote_spanned!(kind.span()=> <#kind as ::retag_sdk::Kind>)).collect();
    Ok(quote! {
        #[doc(hidden)]
        #[allow(missing_docs, dead_code)]
        #visibility struct #sums { #(#views #names: #kinds::Read,)* }
        #[doc(hidden)]
        #[allow(missing_docs, dead_code)]
        #visibility struct #add<'a> { __to: ::retag_sdk::derive::To<'a>, #(#views #names: #kinds::Add<'a>,)* }
        impl<'a> #add<'a> {
            /// The same handles for another key.
            #[allow(dead_code)]
            #[inline]
            #visibility fn at(&self, key: <#ident as ::retag_sdk::Rule>::Key<'_>) -> #add<'a> {
                <#ident as ::retag_sdk::AggregateSet>::add(self.__to.at(key.into()))
            }
        }
        impl ::retag_sdk::AggregateSet for #ident {
            const JSON: &'static str = #json;
            const AGGREGATES: &'static [::retag_sdk::KindInfo] = &[#(::retag_sdk::KindInfo {
                name: #shown,
                kind: #kinds::NAME,
                value: #kinds::VALUE,
                reading: <#kinds::Column as #column<'static>>::TYPE,
            }),*];
            type Add<'a> = #add<'a>;
            type Sums = #sums;
            type Readings<'a> = (#(<#kinds::Column as #column<'a>>::Open,)*);
            #[inline]
            fn add(to: ::retag_sdk::derive::To<'_>) -> #add<'_> {
                #add { __to: to, #(#names: #kinds::handle(to, #ids),)* }
            }
            fn open<'a>(batch: &::retag_sdk::Batch<'a>) -> Self::Readings<'a> {
                (#(<#kinds::Column as #column<'a>>::open(batch, #at),)*)
            }
            #[inline]
            fn sums(readings: &Self::Readings<'_>, key: usize) -> #sums {
                let (#(#names,)*) = readings;
                #sums { #(#names: #kinds::read(#column::get(#names, key)),)* }
            }
        }
        #checks
        #used
        #errors
    })
}

/// The aggregates' part of the manifest. A wrong window leaves the rest standing, so that it is the only message.
struct Manifest {
    json: TokenStream,
    checks: TokenStream,
    errors: TokenStream,
}

fn manifest(fields: &[Named<'_>]) -> Manifest {
    let mut parts = vec![quote!("[")];
    let (mut checks, mut errors) = (TokenStream::new(), TokenStream::new());
    for (n, named) in fields.iter().enumerate() {
        let kind = &named.field.ty;
        let name = source::json(&source::plain(named.ident));
        let open = format!("{}{{\"id\":{n},\"name\":{name},\"kind\":\"", source::comma(n));
        parts.push(quote_spanned! {kind.span()=>
            #open,
            <#kind as ::retag_sdk::Kind>::NAME,
            "\"",
            ::retag_sdk::manifest::when(<#kind as ::retag_sdk::Kind>::VALUE.is_some(), ",\"value\":"),
            ::retag_sdk::manifest::value_json(<#kind as ::retag_sdk::Kind>::VALUE)
        });
        for attribute in named.field.attrs.iter().filter(|a| a.path().is_ident("window")) {
            match window(attribute) {
                Ok((part, check)) => {
                    parts.push(part);
                    checks.extend(check);
                }
                Err(error) => errors.extend(error.to_compile_error()),
            }
        }
        parts.push(quote!("}"));
    }
    parts.push(quote!("]"));
    Manifest { json: quote!(::retag_sdk::const_join!(#(#parts),*)), checks, errors }
}

/// `,"window":{…}` and the check of its column; the column is a constant of the row, so that a wrong name is an error at its token.
fn window(attribute: &Attribute) -> Result<(TokenStream, TokenStream)> {
    let (mut last, mut tile, mut by) = (None, None, None);
    attribute.parse_nested_meta(|meta| {
        if meta.path.is_ident("last") {
            last = Some(meta.value()?.parse::<LitStr>()?);
        } else if meta.path.is_ident("tile") {
            tile = Some(meta.value()?.parse::<LitStr>()?);
        } else if meta.path.is_ident("by") {
            by = Some(meta.value()?.parse::<Path>()?);
        } else {
            return Err(meta.error("expected `last`, `tile` or `by`"));
        }
        Ok(())
    })?;
    let (Some(last), Some(tile), Some(by)) = (last, tile, by) else {
        let message = "a window needs all of last = \"7d\", tile = \"1h\" and by = Row::column";
        return Err(Error::new(attribute.span(), message));
    };
    source::check_duration(&last)?;
    source::check_duration(&tile)?;
    let mut row = by.clone();
    let column = row.segments.pop().map(syn::punctuated::Pair::into_value);
    row.segments.pop_punct();
    let Some(column) = column.filter(|_| !row.segments.is_empty()) else {
        return Err(Error::new(by.span(), "expected by = Row::column"));
    };
    let column = column.ident;
    let named = quote_spanned!(column.span()=> <<#row as ::retag_sdk::TableRow>::Names>::#column);
    let open = format!(
        ",\"window\":{{\"last\":{},\"tile\":{},\"by\":{{\"table\":\"",
        source::json(&last.value()),
        source::json(&tile.value())
    );
    let check = quote_spanned! {column.span()=>
        const _: () = assert!(#named.is_timestamp(), "a window goes by a column of type Timestamp");
    };
    Ok((quote!(#open, #named.table, "\",\"column\":\"", #named.column, "\"}}"), check))
}
