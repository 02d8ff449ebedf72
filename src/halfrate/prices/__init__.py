"""The price book: what each model costs, by tier and token kind, dated and with its source."""

from halfrate.prices.book import PriceBook, load_book

__all__ = ["PriceBook", "load_book"]
