"""Why a subject fails: a catalogue of mistakes, and which of them predicts the failure."""
