"""The Kopf operator that reconciles PolyglotServices."""
