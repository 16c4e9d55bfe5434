"""Small models that memorize known pictures, and a benchmark that runs memfix on them."""
