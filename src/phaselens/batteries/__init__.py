"""Prompts as data: with ids, categories and answers; and loaders for a user's own JSONL or CSV."""

from phaselens.batteries.battery import CATEGORIES, Battery, Prompt, take
from phaselens.batteries.files import load_battery, load_csv, load_jsonl

__all__ = ["CATEGORIES", "Battery", "Prompt", "load_battery", "load_csv", "load_jsonl", "take"]
