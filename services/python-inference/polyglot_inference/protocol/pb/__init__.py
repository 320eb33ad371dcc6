"""Generated from services/contract/proto by services/contract/generate.sh; never edited."""
