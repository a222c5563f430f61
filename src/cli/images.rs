//! The commands on images: `iset`, `iget`, `idelete`. Hashes are typed and printed in hex.

use std::ffi::OsStr;

use serde_json::{Map, Value, json};

use super::Failure;
use super::args::{ImageDeleteArgs, ImageGetArgs, ImageSetArgs};
use super::kv::{Session, nonsense, note};
use super::output::{field, hex, json_answer, json_bytes, text};
use crate::limits::{IMAGE_HASH_SIZE_MAX, IMAGE_WITHIN_MAX};
use crate::store::{Command, Image, Query, Reply};

pub fn set(args: &ImageSetArgs, session: &mut Session<'_>) -> Result<(), Failure> {
    let (hash, meta) = (hash(&args.hash)?, session.value(&args.meta)?);
    session.execute(&Command::SetImage { hash: &hash, meta: &meta }, args.format)
}

pub fn delete(args: &ImageDeleteArgs, session: &mut Session<'_>) -> Result<(), Failure> {
    session.execute(&Command::DeleteImage { hash: &hash(&args.hash)? }, args.format)
}

pub fn get(args: &ImageGetArgs, session: &mut Session<'_>) -> Result<(), Failure> {
    let hash = hash(&args.hash)?;
    let (within, limit) = bounds(args);
    let query = Query::Nearest { hash: &hash, within, limit };
    let answer = session.client.query(&query, args.consistency).map_err(Failure::from)?;
    let Reply::Images { images, more } = &answer.reply else { return Err(nonsense()) };
    note(&answer, args.format);
    let is_found = args.within.is_some() || !images.is_empty();
    if args.format.json {
        let mut json = json_answer(&answer, is_found);
        match (args.within, images.first()) {
            (Some(_), _) => {
                json.insert("images".to_owned(), images.iter().map(json_image).collect());
                json.insert("more".to_owned(), json!(more));
            }
            (None, Some(image)) => json_bytes(&mut json, "meta", &image.meta),
            (None, None) => _ = json.insert("failure".to_owned(), json!("not_found")),
        }
        session.print(Value::Object(json).to_string().as_bytes(), b"\n")?;
    }
    match (args.within, images.first()) {
        (None, None) => Err(Failure::refused(format!("there is no image {}", hex(&hash)))),
        _ if args.format.json => Ok(()),
        (None, Some(image)) if args.raw => session.print(&image.meta, b""),
        (None, Some(image)) => session.print(text(&image.meta).as_bytes(), b"\n"),
        (Some(_), _) => {
            let lines: String = images.iter().map(line).collect();
            session.print(lines.as_bytes(), b"")?;
            if *more {
                eprintln!("loggos: there are more within {within} bits");
            }
            Ok(())
        }
    }
}

/// How many bits may differ, and how many images are asked for.
pub fn bounds(args: &ImageGetArgs) -> (u32, u32) {
    match args.within {
        None => (0, 1),
        Some(within) => (within.min(IMAGE_WITHIN_MAX), args.limit.unwrap_or(u32::MAX)),
    }
}

pub fn line(image: &Image) -> String {
    let (hash, meta) = (hex(&image.hash), field(&image.meta));
    format!("{}\t{hash}\t{meta}\n", image.distance)
}

pub fn json_image(image: &Image) -> Value {
    let mut object = Map::new();
    object.insert("distance".to_owned(), json!(image.distance));
    object.insert("hash".to_owned(), json!(hex(&image.hash)));
    json_bytes(&mut object, "meta", &image.meta);
    Value::Object(object)
}

pub fn hash(typed: &OsStr) -> Result<Vec<u8>, Failure> {
    let digits: Option<Vec<u8>> =
        typed.to_string_lossy().chars().map(|c| c.to_digit(16).map(|it| it as u8)).collect();
    let Some(digits) = digits.filter(|it| !it.is_empty() && it.len() % 2 == 0) else {
        let message = "a hash is an even number of hexadecimal digits, as imagehash prints it";
        return Err(Failure::usage(message.to_owned()));
    };
    if IMAGE_HASH_SIZE_MAX < digits.len() / 2 {
        return Err(Failure::usage(format!("a hash has at most {IMAGE_HASH_SIZE_MAX} bytes")));
    }
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
