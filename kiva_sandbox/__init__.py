"""A local imitation of Kiva's Partner API and of what people see of it in PA2.

It keeps everything it receives, in memory or in a file, and shows it under `/_sandbox/`, so that a test can ask what
reached "Kiva", and on pages under `/pa2/`, where a person publishes, confirms and finalises it as a coordinator does in
PA2.
Nothing here is Kiva's code; where Kiva's behaviour is not public, the sandbox does the likeliest thing.
"""
