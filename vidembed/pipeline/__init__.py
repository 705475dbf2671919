"""The main job: manifest -> decode -> encode -> write, on Ray Data."""
